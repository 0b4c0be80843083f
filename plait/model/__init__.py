"""The trunk: it sees vectors, positions and a mask, and never knows a modality."""
