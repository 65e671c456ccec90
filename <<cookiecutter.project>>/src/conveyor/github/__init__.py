"""All code for GitHub alone: its API, the comment, the settings, releases."""
