"""A newer version of the template for a repository that exists."""
