"""The forget-set stage: questions table, plan of each task, and rows to evaluate."""

from .pipeline import create_pipeline, create_preview_pipeline

__all__ = ["create_pipeline", "create_preview_pipeline"]
