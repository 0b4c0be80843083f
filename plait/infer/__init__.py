"""Generation: prefill, step, commit."""
