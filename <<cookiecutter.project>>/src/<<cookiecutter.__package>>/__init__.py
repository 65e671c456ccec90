"""One module per pipeline step; the files you change are params.yaml, model.py and the data."""
