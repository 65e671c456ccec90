"""The server that answers with a model."""
