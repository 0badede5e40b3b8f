"""Nodes of the metrics stage."""

from __future__ import annotations

import pandas as pd

from closer_look import metrics
from closer_look.parameters.base import depends_on
from closer_look.parameters.evaluation import JudgesParameters, MetricsParameters


def judge_answers(
    generations: pd.DataFrame, evaluation: pd.DataFrame, judges: JudgesParameters
) -> pd.DataFrame:
    """Compare what the model says with the references: cosine similarity and entailment."""
    from closer_look.evaluation.judges import judge

    return judge(generations, evaluation, judges.embedder, judges.entailment)


@depends_on(parameters=("own",))
def measure_rows(
    scores: pd.DataFrame,
    generations: pd.DataFrame,
    judgements: pd.DataFrame,
    parameters: MetricsParameters,
) -> pd.DataFrame:
    """Put all metrics of every row side by side."""
    return metrics.row_metrics(scores, generations, judgements, parameters.records)


def aggregate_metrics(
    row_metrics: pd.DataFrame,
    parameters: MetricsParameters,
    retain_only_scores: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Aggregate each metric over each set, and sum them up.

    The summary is model utility, forget efficacy, TOFU's own utility and, against the scores of a
    retain-only model, forget quality.
    """
    options = {"n_resamples": parameters.resamples, "seed": parameters.seed}
    retain_only = None if retain_only_scores is None else metrics.truth_ratios(retain_only_scores)
    summary = metrics.summarise(row_metrics, **options, retain_only=retain_only)
    return metrics.aggregate(row_metrics, **options, metrics=parameters.records), summary
