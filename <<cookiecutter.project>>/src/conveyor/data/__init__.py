"""Reading, splitting and checking the data."""
