"""What a model can still do in general."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
