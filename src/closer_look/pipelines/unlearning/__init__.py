"""Unlearning of one task."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
