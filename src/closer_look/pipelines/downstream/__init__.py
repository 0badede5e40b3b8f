"""The downstream stage: general abilities of a model."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
