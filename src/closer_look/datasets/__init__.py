"""Kedro datasets of the project: how the catalog's entries are stored."""
