"""The model. Its trunk reads vectors, positions and a mask, and knows no modality."""
