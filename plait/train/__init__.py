"""One loop, its optimizer, its state and its checkpoints."""
