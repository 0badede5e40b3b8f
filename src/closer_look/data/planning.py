"""Training plans: which retain row and refusal accompany each forget row, drawn from a seed."""

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
    """Pair each forget row with a retain row and a refusal, in each epoch.

    Retain rows come from the retain split and from tasks not yet unlearned.

    Args:
        questions: the questions table.
        refusals: refusal sentences ("I don't know").
        task_id: the task to unlearn.
        epochs: passes over the task's forget rows, each in its own random order.
        pairing: "per_epoch" draws new partners in each epoch, "fixed" keeps the first ones.
        generator: the only source of randomness.

    Returns:
        epochs x forget rows, in training order: ``epoch`` (from 1), ``forget_row_id``,
        ``retain_row_id``, ``refusal``.

    Raises:
        InputError: there is no row to retain.
    """
    forget = questions.loc[questions["task_id"] == task_id, "row_id"].to_numpy()
    kept = (questions["split"] == "retain") | (questions["task_id"] > task_id)
    pool = questions.loc[kept, "row_id"].to_numpy()
    if not len(pool):
        raise InputError(
            f"task {task_id}: there is no row to retain, neither in a retain split nor in a later "
            f"task; add a retain split"
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


def plan_of_task(
    questions: pd.DataFrame,
    refusals: Sequence[str],
    task_id: int,
    *,
    epochs: int,
    pairing: Literal["per_epoch", "fixed"],
    seed: int,
) -> pd.DataFrame:
    """Draw a task's plan from a run's seed; see ``draw_plan``.

    An epoch of it does not depend on how many follow.
    """
    generator = np.random.default_rng([seed, task_id])
    return draw_plan(
        questions, refusals, task_id, epochs=epochs, pairing=pairing, generator=generator
    )


def _draw(pool: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Draw n elements at random, each once before any comes again."""
    rounds = [generator.permutation(pool) for _ in range(-(-n // len(pool)))]
    return np.concatenate(rounds)[:n]
