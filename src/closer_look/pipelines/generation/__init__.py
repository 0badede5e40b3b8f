"""The generation stage: a model's answers, and its probabilities of given answers."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
