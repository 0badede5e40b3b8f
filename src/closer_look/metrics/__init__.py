"""Metrics of an unlearned model: pure functions on arrays and tables.

``text``, ``likelihood`` and ``memorisation`` compute a number per row, ``membership`` also whether
these tell two sets of rows apart; ``aggregates`` computes a number over rows, ``intervals`` how far
it may be off; ``seeds`` averages over the seeds of a run, ``comparison`` ranks methods. ``records``
lists the metrics with their labels; ``rows`` and ``summaries`` apply them to whole tables.
"""

from closer_look.metrics.aggregates import (
    forget_efficacy,
    forget_quality,
    forget_truth_ratio,
    model_utility,
    retain_truth_ratio,
)
from closer_look.metrics.comparison import compare
from closer_look.metrics.intervals import proportion_interval
from closer_look.metrics.likelihood import probability, probability_among, truth_ratio
from closer_look.metrics.membership import (
    loss_score,
    membership_auc,
    membership_auc_interval,
    min_k,
    min_k_plus_plus,
    privleak,
    reference_score,
    zlib_score,
)
from closer_look.metrics.membership_tables import membership_scores, membership_summary
from closer_look.metrics.memorisation import exact_memorisation, extraction_strength, leak_at_k
from closer_look.metrics.records import METRICS, Metric, Rows, with_own_metrics
from closer_look.metrics.relearning import relearning_areas
from closer_look.metrics.residual import (
    PLAIN,
    attack_results,
    largest_share,
    residual_knowledge,
)
from closer_look.metrics.rows import row_metrics, truth_ratios
from closer_look.metrics.seeds import average_seeds
from closer_look.metrics.summaries import NO_RETAIN_ONLY_MODEL, aggregate, summarise
from closer_look.metrics.text import rouge_l_recall, token_entropy

__all__ = [
    "METRICS",
    "NO_RETAIN_ONLY_MODEL",
    "PLAIN",
    "Metric",
    "Rows",
    "aggregate",
    "attack_results",
    "average_seeds",
    "compare",
    "exact_memorisation",
    "extraction_strength",
    "forget_efficacy",
    "forget_quality",
    "forget_truth_ratio",
    "largest_share",
    "leak_at_k",
    "loss_score",
    "membership_auc",
    "membership_auc_interval",
    "membership_scores",
    "membership_summary",
    "min_k",
    "min_k_plus_plus",
    "model_utility",
    "privleak",
    "probability",
    "probability_among",
    "proportion_interval",
    "reference_score",
    "relearning_areas",
    "residual_knowledge",
    "retain_truth_ratio",
    "rouge_l_recall",
    "row_metrics",
    "summarise",
    "token_entropy",
    "truth_ratio",
    "truth_ratios",
    "with_own_metrics",
    "zlib_score",
]
