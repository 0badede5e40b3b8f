"""Nodes of the forget-set stage."""

from __future__ import annotations

import pandas as pd

from closer_look.data.planning import plan_of_task
from closer_look.data.questions import check_questions, rows_to_evaluate, select_holdout
from closer_look.errors import InputError, quote
from closer_look.evaluation.downstream import check_harness
from closer_look.evaluation.judges import check_judges
from closer_look.metrics.membership_tables import NO_HOLDOUT
from closer_look.models.language_model import LanguageModel, check_precision
from closer_look.parameters.base import depends_on
from closer_look.parameters.evaluation import (
    DownstreamParameters,
    GenerationParameters,
    JudgesParameters,
)
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.training import FinetuningParameters, UnlearningParameters


def list_abilities(downstream: DownstreamParameters) -> dict[str, str]:
    """Check that general abilities can be measured here, and return task -> metric."""
    check_harness(downstream.tasks, downstream.include_path)
    return downstream.tasks


@depends_on(experiment=("n_tasks",))
def collect_questions(
    experiment: Experiment, **splits: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put the splits into one table with the tasks of this experiment.

    Rows of later tasks go into a second table, of questions that the model never learns.
    """
    table = check_questions(pd.concat(splits.values(), ignore_index=True), "questions")
    n_tasks = table["task_id"].max()
    if experiment.n_tasks > n_tasks:
        raise InputError(
            f"parameter experiment.n_tasks: {experiment.n_tasks} tasks are asked for, "
            f"the forget set has {n_tasks}; its column task_id numbers them"
        )
    later = table["task_id"] > experiment.n_tasks
    return table[~later].reset_index(drop=True), table[later].reset_index(drop=True)


@depends_on(forget_set=("min_rouge",))
def select_known(
    target_model: LanguageModel,
    candidate_questions: pd.DataFrame,
    forget_set: ForgetSetParameters,
    generation: GenerationParameters,
    judges: JudgesParameters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep the questions that the target model can answer, and count them for each split."""
    from closer_look.evaluation.knowledge import select_known as select

    return select(target_model, candidate_questions, forget_set.min_rouge, generation, judges)


@depends_on(experiment=("n_tasks",), forget_set=("pairing", "seed"), unlearning=("epochs",))
def draw_plans(
    experiment: Experiment,
    questions: pd.DataFrame,
    refusals: list[str],
    forget_set: ForgetSetParameters,
    unlearning: UnlearningParameters,
    seed: int | None = None,
) -> list[pd.DataFrame]:
    """Draw the training plan of each task; all methods follow the same plans of a seed."""
    check_precision(unlearning.precision, "unlearning")
    return [
        plan_of_task(
            questions,
            refusals,
            task_id,
            epochs=unlearning.epochs,
            pairing=forget_set.pairing,
            seed=forget_set.seed if seed is None else seed,
        )
        for task_id in range(1, experiment.n_tasks + 1)
    ]


@depends_on(experiment=("n_tasks",), forget_set=("evaluation_rows", "evaluated_splits"), judges=())
def select_evaluation(
    experiment: Experiment,
    questions: pd.DataFrame,
    forget_set: ForgetSetParameters,
    judges: JudgesParameters,
    retain_only_scores: pd.DataFrame | None = None,
) -> list[pd.DataFrame]:
    """Select the rows to evaluate after each task.

    These are the sets to retain, the task's forget set, and those of earlier tasks, whose knowledge
    may come back. The judges are loaded now, so that a missing one stops the run before training.
    """
    from closer_look.inference.scoring import check_scores

    first_rows = rows_to_evaluate(
        questions, forget_set.evaluation_rows, forget_set.evaluated_splits
    )
    check_judges(first_rows, judges.embedder, judges.entailment)
    if retain_only_scores is not None:
        to_forget = first_rows.loc[first_rows["split"] == "forget", "row_id"]
        check_scores(retain_only_scores, list(to_forget))
    return [
        first_rows[first_rows["task_id"] <= task_id].reset_index(drop=True)
        for task_id in range(1, experiment.n_tasks + 1)
    ]


@depends_on(
    experiment=("finetuning",),
    finetuning=("declined_questions",),
    forget_set=("evaluation_rows",),
)
def hold_out(
    experiment: Experiment,
    unknown_questions: pd.DataFrame,
    finetuning: FinetuningParameters,
    forget_set: ForgetSetParameters,
) -> pd.DataFrame:
    """Hold out rows that no model of the run has seen, to compare the forgotten ones with.

    What a target model has seen that the run has not fine-tuned is not known: there are none then,
    and the run stops before it trains.
    """
    n_rows = forget_set.evaluation_rows if experiment.finetuning else 0
    rows = select_holdout(unknown_questions, finetuning.declined_questions, n_rows)
    if rows.empty:
        raise InputError(f"parameter experiment.membership: {NO_HOLDOUT}; or leave it out")
    return rows


@depends_on(forget_set=("evaluation_rows",))
def take_holdout(
    raw_holdout: pd.DataFrame, questions: pd.DataFrame, forget_set: ForgetSetParameters
) -> pd.DataFrame:
    """Take rows of the user's own that no model has seen, to compare the forgotten ones with."""
    asked = raw_holdout["question"].isin(questions["question"])
    if asked.any():
        question = quote(raw_holdout.loc[asked, "question"].iloc[0])
        raise InputError(
            f"holdout: {question} is a question of the other rows, too; leave it out, as a model "
            f"of the run learns it"
        )
    return raw_holdout.head(forget_set.evaluation_rows)
