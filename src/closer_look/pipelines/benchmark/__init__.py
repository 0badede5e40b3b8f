"""The benchmark stage: methods in a leaderboard."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
