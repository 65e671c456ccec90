"""What all other layers use: errors, files, git, parameters, the repository, and the exchange with a workflow."""
