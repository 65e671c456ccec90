"""What only GitHub knows: its API, the comment, the settings, releases."""
