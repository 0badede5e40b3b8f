"""Kedro pipelines: a folder per stage, and the scenarios composed of them."""
