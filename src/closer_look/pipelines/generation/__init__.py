"""What a model says, and how likely it holds given answers."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
