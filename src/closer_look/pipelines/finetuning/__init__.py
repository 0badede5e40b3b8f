"""The fine-tuning stage: makes or takes the target model, which knows the questions."""

from .pipeline import create_model_pipeline, create_pipeline

__all__ = ["create_model_pipeline", "create_pipeline"]
