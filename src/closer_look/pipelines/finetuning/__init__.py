"""The target model: one that knows the questions."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
