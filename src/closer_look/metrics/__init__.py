"""Metrics of an unlearned model: pure functions on arrays and tables.

``text`` and ``likelihood`` give a number a row, ``aggregates`` a number over rows, ``tables`` does
both for whole tables. A new metric is a column in :func:`row_metrics` and a line in ``METRICS``.
"""

from closer_look.metrics.aggregates import (
    METRICS,
    forget_efficacy,
    forget_quality,
    forget_truth_ratio,
    model_utility,
    retain_truth_ratio,
)
from closer_look.metrics.likelihood import probability, probability_among, truth_ratio
from closer_look.metrics.tables import (
    NO_RETAIN_ONLY_MODEL,
    aggregate,
    row_metrics,
    summarise,
    truth_ratios,
)
from closer_look.metrics.text import rouge_l_recall, token_entropy

__all__ = [
    "METRICS",
    "NO_RETAIN_ONLY_MODEL",
    "aggregate",
    "forget_efficacy",
    "forget_quality",
    "forget_truth_ratio",
    "model_utility",
    "probability",
    "probability_among",
    "retain_truth_ratio",
    "rouge_l_recall",
    "row_metrics",
    "summarise",
    "token_entropy",
    "truth_ratio",
    "truth_ratios",
]
