"""Nodes of the forget-set stage."""

from __future__ import annotations

import numpy as np
import pandas as pd

from closer_look.errors import InputError
from closer_look.judges import check_judges
from closer_look.parameters import (
    Experiment,
    ForgetSetParameters,
    JudgesParameters,
    UnlearningParameters,
)
from closer_look.planning import draw_plan
from closer_look.questions import check_questions


def collect_questions(
    experiment: Experiment, **splits: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put the splits into one table that holds the tasks of this experiment.

    The rows of later tasks make a second table, of questions that the model never learns.
    """
    table = check_questions(pd.concat(splits.values(), ignore_index=True), "questions")
    n_tasks = table["task_id"].max()
    if experiment.n_tasks > n_tasks:
        raise InputError(
            f"parameter experiment.n_tasks: {experiment.n_tasks} tasks are asked for, "
            f"the forget set has {n_tasks}"
        )
    later = table["task_id"] > experiment.n_tasks
    return table[~later].reset_index(drop=True), table[later].reset_index(drop=True)


def draw_plans(
    experiment: Experiment,
    questions: pd.DataFrame,
    refusals: list[str],
    forget_set: ForgetSetParameters,
    unlearning: UnlearningParameters,
) -> list[pd.DataFrame]:
    """Draw for each task what is trained beside what; all methods follow the same plan."""
    return [
        draw_plan(
            questions,
            refusals,
            task_id,
            epochs=unlearning.epochs,
            pairing=forget_set.pairing,
            generator=np.random.default_rng([forget_set.seed, task_id]),
        )
        for task_id in range(1, experiment.n_tasks + 1)
    ]


def select_evaluation(
    experiment: Experiment,
    questions: pd.DataFrame,
    forget_set: ForgetSetParameters,
    judges: JudgesParameters,
) -> list[pd.DataFrame]:
    """Choose for each task what is evaluated after it.

    That is the sets to retain, and its own and every earlier task's forget set, in which forgotten
    knowledge may come back.
    """
    first_rows = questions.groupby(["split", "task_id"], sort=False).head(
        forget_set.evaluation_rows
    )
    check_judges(first_rows, judges.embedder, judges.entailment)
    return [
        first_rows[first_rows["task_id"] <= task_id].reset_index(drop=True)
        for task_id in range(1, experiment.n_tasks + 1)
    ]
