"""The plan of a run: whether it fits, and what it takes, before anything is trained."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
