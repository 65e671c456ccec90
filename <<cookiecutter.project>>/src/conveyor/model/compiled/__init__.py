"""A fitted pipeline as an ONNX graph, and the check that it gives the same answers."""
