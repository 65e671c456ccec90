"""Yours: the model, and what you add to it. The machinery around it is in src/conveyor."""
