"""Export: a finished run's models as folders to take away."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
