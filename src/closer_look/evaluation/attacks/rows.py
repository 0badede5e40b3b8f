"""The choice of the rows that are attacked."""

from __future__ import annotations

import numpy as np
import pandas as pd

from closer_look.errors import InputError


def draw_rows(evaluation: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Draw rows to forget, as many of each task as of any other.

    A larger number adds rows to those of a smaller one.

    Args:
        evaluation: rows of the questions table.
        n_rows: largest number of rows.
        seed: the only source of randomness.

    Returns:
        The rows drawn, in the order of the table.

    Raises:
        InputError: no row to forget is evaluated.
    """
    forget = evaluation[evaluation["split"] == "forget"]
    if forget.empty:
        raise InputError(
            "parameter forget_set.evaluated_splits: attacks are made on rows to forget; add "
            "'forget', or remove experiment.stress"
        )
    places = pd.Series(0, forget.index)
    for task_id, rows in forget.groupby("task_id"):
        places[rows.index] = np.random.default_rng([seed, task_id]).permutation(len(rows))
    drawn = places.sort_values(kind="stable").index[:n_rows]
    return forget.loc[sorted(drawn)].reset_index(drop=True)
