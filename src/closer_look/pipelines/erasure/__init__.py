"""Erasure: requests to forget, served as they come."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
