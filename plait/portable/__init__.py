"""A model without PyTorch: its graphs in ONNX, what runs them, and a page that does so in a browser."""
