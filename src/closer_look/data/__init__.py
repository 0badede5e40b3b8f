"""Rows: the questions table, the training plans, and the names of a run's models."""
