"""Findings that a reader of a run must not miss: a method that forgot nothing, or too much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from closer_look.data.cells import BEFORE
from closer_look.errors import listed
from closer_look.reporting.results import efficacy, utility

TOLERATED_LOSS = 0.2
"""Share of model utility that a method may lose without a word."""


def describe_failures(summary: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Say which methods did not forget a task, and which lost more than they should.

    A task is not forgotten if its forget efficacy before unlearning is not below the 95 % interval
    of that after it. Without a target model, nothing is said.

    Args:
        summary: MU and FE of every cell.
        labels: method -> label.
    """
    return [
        sentence
        for method, label in labels.items()
        for sentence in (*_remembered(summary, method, label), *_lost(summary, method, label))
    ]


def describe_versions(node_costs: pd.DataFrame) -> list[str]:
    """Say which libraries have changed between the nodes of a run.

    Args:
        node_costs: a row per node, with ``libraries``: name -> version.
    """
    versions: dict[str, dict[str, None]] = {}
    for libraries in node_costs["libraries"].dropna():
        for name, version in libraries.items():
            versions.setdefault(name, {})[version] = None
    changed = [f"{name} {listed(list(of))}" for name, of in versions.items() if len(of) > 1]
    if not changed:
        return []
    return [f"Not all results were made by the same versions: {'; '.join(changed)}"]


def _remembered(summary: pd.DataFrame, method: str, label: str) -> Iterator[str]:
    # When a task is unlearned, it is measured for the first time.
    after = efficacy(summary, method).sort_values("after_task").drop_duplicates("task_id")
    before = efficacy(summary, BEFORE).set_index("task_id")["value"]
    tasks = after.assign(before=after["task_id"].map(before)).dropna(subset=["value", "before"])
    unmoved = tasks[tasks["before"] >= tasks["ci_low"].fillna(tasks["value"])]
    if len(unmoved):
        numbers = listed([str(task) for task in unmoved["task_id"]])
        yield (
            f"{label} forgot nothing of task {numbers}: forget efficacy is "
            f"{unmoved['value'].mean():.3f}, and was {unmoved['before'].mean():.3f} before, "
            f"within its 95 % interval"
        )


def _lost(summary: pd.DataFrame, method: str, label: str) -> Iterator[str]:
    before = utility(summary, BEFORE)["value"]
    after = utility(summary, method).sort_values("after_task")
    below = after[after["value"] < (1 - TOLERATED_LOSS) * before.max()]
    if len(below):
        first = below.iloc[0]
        yield (
            f"{label} lost more than a fifth of model utility by task {first['after_task']}: "
            f"{first['value']:.3f}, from {before.max():.3f} before"
        )
