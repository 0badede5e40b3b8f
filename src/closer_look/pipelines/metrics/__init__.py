"""The metrics stage: judgements and metrics of a model's answers."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
