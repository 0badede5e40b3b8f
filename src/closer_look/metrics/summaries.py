"""Summaries of row metrics: an aggregate per metric and split, then MU, FE and the like.

Splits: ``forget``, whose rows have the number of the task that forgets them, and the sets to retain
(``retain``, ``real_authors``, ``world_facts``, ``neighbour``), which are task 0. Intervals are 95 %
percentile bootstrap intervals over rows. They show how much a number depends on the choice of
questions, not on the training run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from closer_look.errors import InputError, listed
from closer_look.metrics.aggregates import (
    FORGET_EFFICACY_TERMS,
    MODEL_UTILITY_TERMS,
    TOFU_UTILITY_SPLITS,
    TOFU_UTILITY_TERMS,
    forget_efficacy,
    forget_quality,
    model_utility,
)
from closer_look.metrics.intervals import percentile_interval
from closer_look.metrics.records import METRICS, Metric
from closer_look.metrics.rows import KEY

NO_RETAIN_ONLY_MODEL = "there are no scores of a retain-only model"
NO_TOFU_SET = (
    "TOFU's utility is over retain, real_authors and world_facts; none of them was evaluated"
)


def aggregate(
    row_metrics: pd.DataFrame,
    n_resamples: int = 1000,
    seed: int = 1001,
    metrics: Mapping[str, Metric] = METRICS,
) -> pd.DataFrame:
    """Aggregate every metric over the rows of each split (forget: of each task).

    Args:
        row_metrics: from :func:`row_metrics`. A metric is over the rows that have a value of it.
        n_resamples: number of bootstrap resamples.
        seed: seed of the resampling; the same seed gives the same intervals.
        metrics: name -> record.

    Returns:
        Columns split, task_id, metric, value, ci_low, ci_high, n_rows (rows with a value). The
        table omits a metric if no row of the split has a value. One row gives no interval (NaN).

    Raises:
        InputError: a metric's value over the rows of a split is not between 0 and 1.
    """
    lines = []
    for (split, task_id), estimates in _estimate(row_metrics, n_resamples, seed, metrics).items():
        for metric, estimate in estimates.items():
            if not 0 <= estimate.value <= 1:
                raise InputError(
                    f"metric '{metric}' is {estimate.value:g} over the rows of {split}; "
                    f"over rows it must lie between 0 and 1"
                )
            interval = _interval(estimate.resampled, [estimate])
            lines.append((split, task_id, metric, estimate.value, *interval, estimate.n_rows))
    columns = ["split", "task_id", "metric", "value", "ci_low", "ci_high", "n_rows"]
    return pd.DataFrame(lines, columns=columns)


def summarise(
    row_metrics: pd.DataFrame,
    n_resamples: int = 1000,
    seed: int = 1001,
    retain_only: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Summarise a model: Model Utility, Forget Efficacy, TOFU's utility and Forget Quality.

    If a term or a row is missing, the value is over the others. ``terms`` lists what is in it, and
    ``reason`` says what is missing, and why.

    Args:
        row_metrics: from :func:`row_metrics`.
        n_resamples: number of bootstrap resamples of the rows within each split and task.
        seed: seed of the resampling; the same seed gives the same intervals.
        retain_only: from :func:`truth_ratios`, of a model that was never trained on the forget
            rows; further rows do no harm.

    Returns:
        Columns metric, task_id, value, ci_low, ci_high, terms, reason. The lines are
        ``model_utility`` (task 0) over all sets to retain, ``forget_efficacy`` of each task,
        ``tofu_model_utility`` (task 0), and ``forget_quality`` of each task, a p-value without an
        interval. ``terms`` are the metrics in a value, as in "rouge, probability of retain and
        world_facts". ``reason`` is "" if all terms of all rows are in it; the value is NaN if none
        is, and the interval if a term is of one row.
    """
    terms = (*MODEL_UTILITY_TERMS, *FORGET_EFFICACY_TERMS, *TOFU_UTILITY_TERMS)
    held = {name: metric for name, metric in METRICS.items() if name in terms}
    groups = _estimate(row_metrics, n_resamples, seed, held)
    retain = {split: estimates for (split, _), estimates in groups.items() if split != "forget"}
    forget = {task: estimates for (split, task), estimates in groups.items() if split == "forget"}
    lines = [("model_utility", 0, *_combine(model_utility, MODEL_UTILITY_TERMS, retain))]
    for task_id, estimates in forget.items():
        efficacy = _combine(forget_efficacy, FORGET_EFFICACY_TERMS, {"forget": estimates})
        lines.append(("forget_efficacy", task_id, *efficacy))
    lines.append(("tofu_model_utility", 0, *_tofu_model_utility(retain)))
    forget_rows = row_metrics[row_metrics["split"] == "forget"]
    for task_id in forget:
        quality, reason = _quality(forget_rows[forget_rows["task_id"] == task_id], retain_only)
        terms = "" if np.isnan(quality) else "truth_ratio of forget"
        lines.append(("forget_quality", task_id, quality, np.nan, np.nan, terms, reason))
    columns = ["metric", "task_id", "value", "ci_low", "ci_high", "terms", "reason"]
    return pd.DataFrame(lines, columns=columns)


class _Estimate(NamedTuple):
    value: float
    resampled: NDArray[np.float64]  # (n_resamples,)
    n_rows: int  # that have a value
    n_missing: int


def _estimate(
    row_metrics: pd.DataFrame,
    n_resamples: int,
    seed: int,
    metrics: Mapping[str, Metric] = METRICS,
) -> dict[tuple[str, int], dict[str, _Estimate]]:
    """Estimate every metric: (split, task_id) -> metric -> estimate, if any row has a value."""
    task_id = row_metrics["task_id"].where(row_metrics["split"] == "forget", 0)
    groups = {}
    for number, ((split, task), rows) in enumerate(row_metrics.groupby(["split", task_id])):
        estimates = {}
        for name, metric in metrics.items():
            values = rows[name].dropna().to_numpy(dtype=float)
            if len(values) == 0:
                continue
            # A new generator for each metric, so that all metrics of a group resample alike.
            rng = np.random.default_rng([seed, number])
            index = rng.integers(len(values), size=(n_resamples, len(values)))
            estimates[name] = _Estimate(
                value=float(metric.over_rows(values, split)),
                resampled=metric.over_rows(values[index], split),
                n_rows=len(values),
                n_missing=len(rows) - len(values),
            )
        groups[split, int(task)] = estimates
    return groups


def _combine(
    summary: Callable, terms: tuple[str, ...], splits: Mapping[str, Mapping[str, _Estimate]]
) -> tuple[float, float, float, str, str]:
    """Compute value, ci_low, ci_high, terms and reason of a summary of ``terms`` on each split."""
    reason = _reason(terms, splits)
    held = [estimates[term] for estimates in splits.values() for term in terms if term in estimates]
    if not held:
        return np.nan, np.nan, np.nan, "", reason
    value = float(summary([estimate.value for estimate in held]))
    resampled = summary(np.stack([estimate.resampled for estimate in held], axis=-1))
    return value, *_interval(resampled, held), _held(terms, splits), reason


def _interval(resampled: NDArray[np.float64], held: Sequence[_Estimate]) -> tuple[float, float]:
    """Compute the interval of what is made of estimates; one row tells nothing of others."""
    if any(estimate.n_rows == 1 for estimate in held):
        return np.nan, np.nan
    return percentile_interval(resampled)


def _tofu_model_utility(
    retain: Mapping[str, Mapping[str, _Estimate]],
) -> tuple[float, float, float, str, str]:
    """Compute value, ci_low, ci_high, terms and reason of TOFU's own utility."""
    evaluated = {split: retain[split] for split in TOFU_UTILITY_SPLITS if split in retain}
    if not evaluated:
        return np.nan, np.nan, np.nan, "", NO_TOFU_SET
    *estimate, reason = _combine(model_utility, TOFU_UTILITY_TERMS, evaluated)
    missing = [split for split in TOFU_UTILITY_SPLITS if split not in retain]
    absent = [f"no row of {split} was evaluated" for split in missing]
    return *estimate, "; ".join([reason, *absent] if reason else absent)


def _quality(rows: pd.DataFrame, retain_only: pd.DataFrame | None) -> tuple[float, str]:
    """Compute value and reason of the forget quality of a task's rows."""
    if retain_only is None:
        return np.nan, NO_RETAIN_ONLY_MODEL
    other = retain_only[[*KEY, "truth_ratio"]].rename(columns={"truth_ratio": "retain_only"})
    r = rows[[*KEY, "truth_ratio"]].merge(other, how="left", on=KEY)
    models = {
        "truth_ratio": ("forget", _need("truth_ratio")),
        "retain_only": ("the retain-only model", ""),
    }
    reasons = [
        f"truth_ratio of {whom} from {r[column].count()} of {len(r)} rows{need}"
        for column, (whom, need) in models.items()
        if r[column].isna().any()
    ]
    both = r.dropna()  # the same questions to both models
    quality = np.nan if both.empty else forget_quality(both["truth_ratio"], both["retain_only"])
    return quality, "; ".join(reasons)


def _held(terms: tuple[str, ...], splits: Mapping[str, Mapping[str, _Estimate]]) -> str:
    """List the terms with a value; splits that have the same ones are named together."""
    splits_of: dict[str, list[str]] = {}
    for split, estimates in splits.items():
        held = ", ".join(term for term in terms if term in estimates)
        splits_of.setdefault(held, []).append(split)
    return "; ".join(f"{held} of {listed(of)}" for held, of in splits_of.items() if held)


def _reason(terms: tuple[str, ...], splits: Mapping[str, Mapping[str, _Estimate]]) -> str:
    """Describe what a summary of ``terms`` on each split lacks; "" if it lacks nothing."""
    if not splits:
        return "no set to retain was evaluated"
    absent, partial = [], []
    for split, estimates in splits.items():
        for term in terms:
            if term not in estimates:
                absent.append(f"no row has {term} of {split}{_need(term)}")
            elif estimates[term].n_missing:
                n_rows, n_missing = estimates[term].n_rows, estimates[term].n_missing
                n_rows = f"{n_rows} of {n_rows + n_missing} rows"
                partial.append(f"{term} of {split} from {n_rows}{_need(term)}")
    n_terms = len(splits) * len(terms)
    sentences = [f"holds {n_terms - len(absent)} of {n_terms} terms"] if absent else []
    return "; ".join([*sentences, *absent, *partial])


def _need(term: str) -> str:
    needs = METRICS[term].needs
    return f" (it needs {needs})" if needs else ""
