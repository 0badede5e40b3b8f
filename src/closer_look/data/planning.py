"""What stands beside what in training, drawn once from a seed and kept as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from closer_look.errors import InputError


def draw_plan(
    questions: pd.DataFrame,
    refusals: Sequence[str],
    task_id: int,
    *,
    epochs: int,
    pairing: Literal["per_epoch", "fixed"],
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Put a retain row and a refusal beside each forget row in each epoch.

    The retain rows are those of the retain split and of tasks not yet unlearned.

    Args:
        questions: the questions table.
        refusals: sentences to answer with in place of the forgotten.
        task_id: the task to unlearn.
        epochs: passes over the task's forget rows, each in an order of its own.
        pairing: "per_epoch" draws new partners in each epoch, "fixed" keeps the first ones.
        generator: the only source of chance.

    Returns:
        epochs x forget rows in training order: ``epoch`` (from 1), ``forget_row_id``,
        ``retain_row_id``, ``refusal``.

    Raises:
        InputError: there is no row to retain.
    """
    forget = questions.loc[questions["task_id"] == task_id, "row_id"].to_numpy()
    kept = (questions["split"] == "retain") | (questions["task_id"] > task_id)
    pool = questions.loc[kept, "row_id"].to_numpy()
    if not len(pool):
        raise InputError(
            f"task {task_id}: no row to retain beside it; "
            f"there is neither a retain split nor a later task"
        )
    tables = []
    for epoch in range(1, epochs + 1):
        if epoch == 1 or pairing == "per_epoch":
            partners = _draw(pool, len(forget), generator)
            answers = _draw(np.array(refusals, dtype=object), len(forget), generator)
        order = generator.permutation(len(forget))
        tables.append(
            pd.DataFrame(
                {
                    "epoch": epoch,
                    "forget_row_id": forget[order],
                    "retain_row_id": partners[order],
                    "refusal": answers[order],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _draw(pool: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Draw n, each element once before any comes again."""
    rounds = [generator.permutation(pool) for _ in range(-(-n // len(pool)))]
    return np.concatenate(rounds)[:n]
