"""A fitted pipeline as an ONNX graph, and whether that gives the same answers."""
