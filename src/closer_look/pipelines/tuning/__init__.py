"""The tuning stage: the settings of each method that are best on rows which no table reports."""

from .pipeline import (
    GROUPS,
    INPUTS,
    create_pipeline,
    create_results_pipeline,
    create_rows_pipeline,
)

__all__ = ["GROUPS", "INPUTS", "create_pipeline", "create_results_pipeline", "create_rows_pipeline"]
