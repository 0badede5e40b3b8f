"""The stress stage: attacks on unlearned models, and what they got back."""

from .pipeline import create_attack_pipeline, create_pipeline, create_results_pipeline

__all__ = ["create_attack_pipeline", "create_pipeline", "create_results_pipeline"]
