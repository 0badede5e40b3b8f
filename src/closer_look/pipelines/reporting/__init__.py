"""The reporting stage: tables, figures and an HTML report of all methods and tasks."""

from .pipeline import create_method_pipeline, create_pipeline

__all__ = ["create_method_pipeline", "create_pipeline"]
