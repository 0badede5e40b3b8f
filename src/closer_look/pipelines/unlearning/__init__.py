"""The unlearning stage: a method makes a model forget one task."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
