"""The machinery: it validates, trains, compares, deploys and monitors. README.md beside this file is its map."""
