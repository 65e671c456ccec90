"""The machinery: what validates, trains, compares, deploys and watches. README.md beside this file is its map."""
