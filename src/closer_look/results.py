"""Tables of a whole run, stacked from the results of its cells.

A cell is the target model ("before") or a method after a task ("me_gd.task_03").
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

BEFORE = "before"


def stack_cells(cells: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the tables of all cells under each other.

    Returns:
        The tables' rows behind ``method`` ("before" for the target model) and ``after_task``
        (tasks unlearned so far; 0 before).
    """
    return pd.concat(
        [
            table.assign(method=method, after_task=after_task)[
                ["method", "after_task", *table.columns]
            ]
            for method, after_task, table in (
                (*_parse(cell), table) for cell, table in cells.items()
            )
        ],
        ignore_index=True,
    )


def _parse(cell: str) -> tuple[str, int]:
    method, _, task = cell.partition(".")
    return method, int(task.removeprefix("task_") or 0)


def utility(summary: pd.DataFrame, method: str) -> pd.DataFrame:
    """The method's model utility after each task."""
    return summary[(summary["method"] == method) & (summary["metric"] == "model_utility")]


def efficacy(summary: pd.DataFrame, method: str) -> pd.DataFrame:
    """The method's forget efficacy on each task's forget set after each task."""
    return summary[(summary["method"] == method) & (summary["metric"] == "forget_efficacy")]


def current_tasks(summary: pd.DataFrame, method: str) -> pd.DataFrame:
    """The method's forget efficacy on the task just unlearned; before unlearning, on every task."""
    cells = efficacy(summary, method)
    return cells[(cells["task_id"] == cells["after_task"]) | (cells["after_task"] == 0)]


def summary_table(summary: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """One row a method and task: MU, FE of that task, and the mean FE of all tasks so far.

    The first row is the target model: its FE is the mean over all tasks.
    """
    rows = []
    for method, label in {BEFORE: "before", **labels}.items():
        for kept in utility(summary, method).itertuples():
            cells = efficacy(summary, method)
            cells = cells[cells["after_task"] == kept.after_task]
            now = cells.loc[cells["task_id"] == kept.after_task, "value"]
            rows.append(
                {
                    "method": label,
                    "after_task": kept.after_task,
                    "model_utility": kept.value,
                    "forget_efficacy": now.iloc[0] if len(now) else cells["value"].mean(),
                    "forget_efficacy_of_tasks_so_far": cells["value"].mean(),
                }
            )
    return pd.DataFrame(rows)


def answers_table(
    generations: Mapping[str, pd.DataFrame], labels: Mapping[str, str]
) -> pd.DataFrame:
    """Every evaluated question with its answer before and after unlearning with each method.

    Args:
        generations: of the target model ("before") and of each method's last task.
        labels: of the methods.

    Returns:
        ``split``, ``task_id``, ``question``, ``reference``, ``before``, and a column a method.
    """
    keys = ["split", "task_id", "row_id"]
    before = generations[BEFORE]
    table = before[[*keys, "question", "reference"]].assign(before=before["generated"])
    for cell, generated in generations.items():
        if cell != BEFORE:
            column = generated[[*keys, "generated"]]
            table = table.merge(column, on=keys, how="left")
            table = table.rename(columns={"generated": labels[_parse(cell)[0]]})
    return table
