"""Raw rows to the questions table, the plan of each task and the rows to evaluate."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
