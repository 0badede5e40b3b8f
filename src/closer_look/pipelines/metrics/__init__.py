"""The metrics stage: judgements and metrics of a model's answers."""

from .pipeline import create_numbers_pipeline, create_pipeline

__all__ = ["create_numbers_pipeline", "create_pipeline"]
