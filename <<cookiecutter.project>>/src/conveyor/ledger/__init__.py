"""Which model is champion, and how it came to be."""
