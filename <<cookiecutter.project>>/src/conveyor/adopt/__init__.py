"""The team's own data in place of the sample, and new rows of them."""
