"""The image of a model, and how it comes to serve on a Docker host or a cluster."""
