"""Judgements and metrics of what a model says."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
