"""Numbers of models that OpenUnlearning has evaluated, in the tables of this project.

OpenUnlearning (arXiv 2506.12618) writes two files into a run's folder. ``TOFU_EVAL.json`` has, for
each metric, ``agg_value`` and ``value_by_index``, the values of each row; ``TOFU_SUMMARY.json``
has the aggregates alone. What both projects define alike is read; docs/own_model.md says what
differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from closer_look.errors import InputError, first_line
from closer_look.metrics import METRICS, Metric, aggregate, summarise

ROWS, SUMMARY = "TOFU_EVAL.json", "TOFU_SUMMARY.json"
NO_INTERVALS = {"ci_low": float("nan"), "ci_high": float("nan")}

READ = {  # their metric -> split, metric, and the name of a row's value
    "forget_Q_A_ROUGE": ("forget", "rouge", "rougeL_recall"),
    "forget_Q_A_Prob": ("forget", "probability", "prob"),
    "forget_truth_ratio": ("forget", "truth_ratio", "score"),
    "exact_memorization": ("forget", "exact_memorisation", "score"),
    "extraction_strength": ("forget", "extraction_strength", "score"),
    "retain_Q_A_ROUGE": ("retain", "rouge", "rougeL_recall"),
    "retain_Q_A_Prob": ("retain", "probability", "prob"),
    "retain_Truth_Ratio": ("retain", "truth_ratio", "score"),
    "ra_Q_A_ROUGE": ("real_authors", "rouge", "rougeL_recall"),
    "ra_Q_A_Prob_normalised": ("real_authors", "probability", "prob"),
    "ra_Truth_Ratio": ("real_authors", "truth_ratio", "score"),
    "wf_Q_A_ROUGE": ("world_facts", "rouge", "rougeL_recall"),
    "wf_Q_A_Prob_normalised": ("world_facts", "probability", "prob"),
    "wf_Truth_Ratio": ("world_facts", "truth_ratio", "score"),
}


def read_evaluation(
    folder: Path, task_id: int, n_resamples: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the numbers of a model.

    Args:
        folder: holds ``TOFU_EVAL.json`` or, without intervals, ``TOFU_SUMMARY.json``.
        task_id: the task that their forget set stands for.
        n_resamples: number of bootstrap resamples of the rows.
        seed: seed of the resampling.

    Returns:
        Metrics and summary, as ``metrics.aggregate`` and ``metrics.summarise`` give them. MU and FE
        are over what was measured there, and say so. Forget quality is the one in the file, against
        the retain-only model of that evaluation.

    Raises:
        InputError: there is no such file, or it is not of this format.
    """
    path = next((folder / name for name in (ROWS, SUMMARY) if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder} holds neither {ROWS} nor {SUMMARY} of OpenUnlearning")
    found = _load(path)
    of_rows = path.name == ROWS
    read = {name: how for name, how in READ.items() if name in found}
    if not read:
        raise InputError(f"{path} holds none of {', '.join(READ)}")
    columns: dict[str, dict[str, pd.Series]] = {}
    for name, (split, metric, key) in read.items():
        values = _values(path, name, found[name], key) if of_rows else _whole(path, name, found)
        columns.setdefault(split, {})[metric] = _as_here(values, metric, split, of_rows)
    rows = pd.concat(
        pd.DataFrame(of).assign(split=split, task_id=task_id * (split == "forget"))
        for split, of in columns.items()
    )
    rows = rows.rename_axis("row_id").reset_index().reindex(columns=_columns(METRICS))
    options = {"n_resamples": n_resamples, "seed": seed}
    metrics, summary = aggregate(rows, **options), summarise(rows, **options)
    if not of_rows:
        metrics, summary = metrics.assign(**NO_INTERVALS, n_rows=0), summary.assign(**NO_INTERVALS)
    quality = _whole(path, "forget_quality", found).iloc[0] if "forget_quality" in found else None
    if pd.notna(quality):
        is_quality = summary["metric"] == "forget_quality"
        summary.loc[is_quality, "value"] = quality
        summary.loc[is_quality, ["terms", "reason"]] = "truth_ratio of forget", ""
    return metrics, summary


def _columns(metrics: Mapping[str, Metric]) -> list[str]:
    return ["split", "task_id", "row_id", *metrics]


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not JSON ({first_line(error)})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} must map names of metrics to their values")
    return found


def _values(path: Path, name: str, metric: Any, key: str) -> pd.Series:
    """Return a metric's value of each row, by their index; NaN where they have none."""
    try:
        values = {index: row[key] for index, row in metric["value_by_index"].items()}
        return pd.Series(values, dtype=float)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path}: {name} needs value_by_index with '{key}' of each row") from None


def _whole(path: Path, name: str, found: Mapping[str, Any]) -> pd.Series:
    """Return a metric's aggregate, as if of one row."""
    value = found[name]["agg_value"] if isinstance(found[name], dict) else found[name]
    if not isinstance(value, int | float | None):
        raise InputError(f"{path}: {name} must be a number")
    return pd.Series({"all": value}, dtype=float)


def _as_here(values: pd.Series, metric: str, split: str, of_rows: bool) -> pd.Series:
    """Turn truth ratios into r, of which theirs is the inverse.

    Of an aggregate, it is an r that has the same aggregate: theirs of a forget set is ``mean min(r,
    1 / r)``, of a set to retain ``mean max(0, 1 - 1 / r)``.
    """
    if metric != "truth_ratio":
        return values
    if of_rows:
        return 1 / values
    return values if split == "forget" else 1 / (1 - values)
