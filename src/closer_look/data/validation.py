"""The choice of rows on which settings are tuned, and which no table reports."""

from __future__ import annotations

import numpy as np
import pandas as pd

from closer_look.errors import InputError
from closer_look.parameters.experiment import SPLITS


def draw_validation(evaluation: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Draw a share of the rows to evaluate, of each set and task, evenly over subjects.

    Args:
        evaluation: rows of the questions table.
        share: between 0 and 1; at least one row is drawn of each set and task.
        seed: the only source of randomness; the rows of a task depend on no other task.

    Returns:
        The rows drawn, in the order of the table.

    Raises:
        InputError: fewer than two rows of a set or task would be left to report, which have no
            interval, or there are no rows to forget or none to retain.
    """
    splits = set(evaluation["split"])
    if "forget" not in splits or len(splits) == 1:
        raise InputError(
            "parameter forget_set.evaluated_splits: tuning weighs what is forgotten against what "
            "is kept; evaluate 'forget' and a set to retain"
        )
    drawn = []
    for (split, task_id), rows in evaluation.groupby(["split", "task_id"], sort=False):
        n_drawn = max(1, round(share * len(rows)))
        n_left = len(rows) - n_drawn
        if n_left < 2:
            of = f"task {task_id}" if task_id else f"split '{split}'"
            raise InputError(
                f"parameter tuning.validation_share: {share} takes {n_drawn} of {len(rows)} rows "
                f"of {of} and leaves {n_left or 'none'} to report; an interval takes two. Make it "
                f"smaller, or evaluate more rows"
            )
        generator = np.random.default_rng([seed, SPLITS.index(split), task_id])
        shuffled = rows.iloc[generator.permutation(len(rows))]
        turns = shuffled.groupby("subject", dropna=False).cumcount()  # each subject's first, ...
        drawn += list(turns.sort_values(kind="stable").index[:n_drawn])
    return evaluation.loc[sorted(drawn)].reset_index(drop=True)


def check_tasks(n_tuned: int | None, n_tasks: int) -> None:
    """Refuse trials of more tasks than the run has.

    Raises:
        InputError: there are fewer tasks.
    """
    if n_tuned and n_tuned > n_tasks:
        raise InputError(
            f"parameter tuning.n_tasks: {n_tuned} tasks are asked for, the run has {n_tasks}"
        )
