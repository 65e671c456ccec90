"""Is the challenger better than the champion? Pure functions of labels and predictions: no git, no file."""
