"""One folder a stage, in the order of the data."""
