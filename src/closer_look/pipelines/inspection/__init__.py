"""Inspection: what would be trained, token by token, before anything is."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
