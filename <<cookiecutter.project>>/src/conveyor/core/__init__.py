"""What every layer stands on: errors, files, git, parameters, the repository, and what a workflow tells and is told."""
