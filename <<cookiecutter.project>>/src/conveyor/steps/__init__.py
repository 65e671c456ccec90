"""The steps of the pipeline, one file for each verb."""
