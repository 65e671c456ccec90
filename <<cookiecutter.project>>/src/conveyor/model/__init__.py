"""The bundle of a model, and how a model answers."""
