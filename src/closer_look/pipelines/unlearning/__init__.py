"""The unlearning stage: a method makes a model forget one task."""

from .pipeline import (
    create_alternates_pipeline,
    create_instruction_pipeline,
    create_pipeline,
    create_plan_pipeline,
)

__all__ = [
    "create_alternates_pipeline",
    "create_instruction_pipeline",
    "create_pipeline",
    "create_plan_pipeline",
]
