"""Rows: the questions table, and the plan of what is trained with what."""
