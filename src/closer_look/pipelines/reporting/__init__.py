"""Tables, figures and one HTML file from the results of all methods and tasks."""

from .pipeline import create_method_pipeline, create_pipeline

__all__ = ["create_method_pipeline", "create_pipeline"]
