"""The reference stage: scores of the frozen reference model, computed before training."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
