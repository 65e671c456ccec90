"""Data of a team's own in the place of the sample."""
