"""Tables, figures and one HTML file from the results of all methods and tasks."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
