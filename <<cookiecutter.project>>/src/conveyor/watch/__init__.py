"""What a model does once it is live: predictions, labels, loss, and what is raised about it."""
