"""Nodes of the metrics stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from closer_look import metrics
from closer_look.parameters.base import depends_on
from closer_look.parameters.evaluation import JudgesParameters, MetricsParameters
from closer_look.parameters.models import MeasuredModelParameters


def judge_answers(
    generations: pd.DataFrame, evaluation: pd.DataFrame, judges: JudgesParameters
) -> pd.DataFrame:
    """Compare the model's answers with the references: cosine similarity and entailment."""
    from closer_look.evaluation.judges import judge

    return judge(generations, evaluation, judges.embedder, judges.entailment)


@depends_on(parameters=("own",))
def measure_rows(
    scores: pd.DataFrame,
    generations: pd.DataFrame,
    judgements: pd.DataFrame,
    parameters: MetricsParameters,
) -> pd.DataFrame:
    """Compute all metrics of every row."""
    return metrics.row_metrics(scores, generations, judgements, parameters.records)


def aggregate_metrics(
    row_metrics: pd.DataFrame,
    parameters: MetricsParameters,
    retain_only_scores: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Aggregate each metric over each split and task, and summarise them.

    The summary holds model utility, forget efficacy, TOFU's utility and, if there are scores of a
    retain-only model, forget quality.
    """
    options = {"n_resamples": parameters.resamples, "seed": parameters.seed}
    retain_only = None if retain_only_scores is None else metrics.truth_ratios(retain_only_scores)
    summary = metrics.summarise(row_metrics, **options, retain_only=retain_only)
    return metrics.aggregate(row_metrics, **options, metrics=parameters.records), summary


@depends_on(parameters=("resamples", "seed"))
def infer_membership(
    scores: pd.DataFrame,
    evaluation: pd.DataFrame,
    holdout: pd.DataFrame,
    parameters: MetricsParameters,
    retain_only_scores: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute membership scores of rows, and whether these tell the forgotten rows from others."""
    rows = pd.concat([evaluation[evaluation["split"] == "forget"], holdout])
    of_model = metrics.membership_scores(scores, rows, retain_only_scores)
    of_retain_only = None
    if retain_only_scores is not None:
        of_retain_only = metrics.membership_scores(retain_only_scores, rows)
    options = {"n_resamples": parameters.resamples, "seed": parameters.seed}
    return of_model, metrics.membership_summary(of_model, of_retain_only, **options)


@depends_on(model=("evaluation",), parameters=("resamples", "seed"))
def read_numbers(
    evaluation: pd.DataFrame, model: MeasuredModelParameters, parameters: MetricsParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the numbers of a model that was evaluated elsewhere; it forgot the last task."""
    from closer_look.evaluation.open_unlearning import read_evaluation

    task_id = int(evaluation["task_id"].max())
    return read_evaluation(Path(model.evaluation), task_id, parameters.resamples, parameters.seed)
