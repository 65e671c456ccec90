"""The image of a model, and its deployment to a Docker host or a cluster."""
