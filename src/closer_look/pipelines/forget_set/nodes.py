"""Nodes of the forget-set stage."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from closer_look.errors import InputError, quote
from closer_look.harness import check_harness
from closer_look.judges import check_judges
from closer_look.language_model import LanguageModel, check_precision
from closer_look.parameters import (
    DownstreamParameters,
    Experiment,
    ForgetSetParameters,
    GenerationParameters,
    JudgesParameters,
    UnlearningParameters,
    reads,
)
from closer_look.planning import draw_plan
from closer_look.questions import check_questions

log = logging.getLogger(__name__)


def list_abilities(downstream: DownstreamParameters) -> dict[str, str]:
    """See that general abilities can be measured here, and say which: task and metric."""
    check_harness(downstream.tasks, downstream.include_path)
    return downstream.tasks


@reads(experiment=("n_tasks",))
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


@reads(forget_set=("min_rouge",))
def select_known(
    target_model: LanguageModel,
    candidate_questions: pd.DataFrame,
    forget_set: ForgetSetParameters,
    generation: GenerationParameters,
    judges: JudgesParameters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep the questions that the target model can answer: nothing else can be forgotten.

    An answer counts if it has the gold answer's words and is judged to state its fact: a wrong name
    in the right sentence has most of the words. Also returned is how many count of each split.
    """
    from closer_look.generation import generate
    from closer_look.judges import judge
    from closer_look.metrics import rouge_l_recall

    check_judges(candidate_questions, judges.embedder, judges.entailment)
    answers = generate(
        target_model,
        list(candidate_questions["question"]),
        generation.max_length,
        generation.batch_size,
        description="Answering candidates",
    )
    recall = rouge_l_recall(answers["generated"], candidate_questions["gold_answer"])
    judged = judge(
        candidate_questions[["row_id"]].join(answers),
        candidate_questions,
        judges.embedder,
        judges.entailment,
    )
    is_known = pd.Series(recall >= forget_set.min_rouge, candidate_questions.index)
    if judges.entailment:
        is_known &= judged["entailment"]
    known = candidate_questions[is_known].reset_index(drop=True)
    counts = (
        candidate_questions.assign(known=is_known)
        .groupby("split", sort=False, as_index=False)
        .agg(n_rows=("known", "size"), n_known=("known", "sum"))
        .assign(min_rouge=forget_set.min_rouge)
    )
    for split, n_rows, n_known, _ in counts.itertuples(index=False):
        log.info("%s: the model can answer %d of %d questions", split, n_known, n_rows)
    for (split, task_id), is_known_of_set in is_known.groupby(
        [candidate_questions["split"], candidate_questions["task_id"]], sort=False
    ):
        if not is_known_of_set.any():
            raise InputError(
                f"parameter forget_set.min_rouge: at {forget_set.min_rouge} the target model can "
                f"answer no question of " + (f"task {task_id}" if task_id else f"split '{split}'")
            )
    return known, counts


@reads(experiment=("n_tasks",), forget_set=("pairing", "seed"), unlearning=("epochs",))
def draw_plans(
    experiment: Experiment,
    questions: pd.DataFrame,
    refusals: list[str],
    forget_set: ForgetSetParameters,
    unlearning: UnlearningParameters,
) -> list[pd.DataFrame]:
    """Draw for each task what is trained beside what; all methods follow the same plan."""
    check_precision(unlearning.precision, "unlearning")
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


@reads(experiment=("n_tasks",), forget_set=("evaluation_rows", "evaluated_splits"), judges=())
def select_evaluation(
    experiment: Experiment,
    questions: pd.DataFrame,
    forget_set: ForgetSetParameters,
    judges: JudgesParameters,
    retain_only_scores: pd.DataFrame | None = None,
) -> list[pd.DataFrame]:
    """Choose for each task what is evaluated after it.

    That is the sets to retain, and its own and every earlier task's forget set, in which forgotten
    knowledge may come back. Whoever evaluates is seen to be there before anything is trained.
    """
    if forget_set.evaluated_splits:
        questions = questions[questions["split"].isin(forget_set.evaluated_splits)]
    first_rows = questions.groupby(["split", "task_id"], sort=False).head(
        forget_set.evaluation_rows
    )
    check_judges(first_rows, judges.embedder, judges.entailment)
    if retain_only_scores is not None:
        _check_scores(retain_only_scores, first_rows[first_rows["split"] == "forget"])
    return [
        first_rows[first_rows["task_id"] <= task_id].reset_index(drop=True)
        for task_id in range(1, experiment.n_tasks + 1)
    ]


def _check_scores(scores: pd.DataFrame, rows: pd.DataFrame) -> None:
    for column in ("split", "row_id", "kind", "nll", "n_tokens"):
        if column not in scores:
            raise InputError(f"retain_only_scores: column '{column}' is missing")
    repeated = scores[scores.duplicated(["split", "row_id", "kind"])]
    if len(repeated):
        row_id, kind = repeated.iloc[0][["row_id", "kind"]]
        raise InputError(f"retain_only_scores: row {quote(row_id)} has two scores of kind '{kind}'")
    scored = scores.loc[scores["split"] == "forget", "row_id"]
    if not rows["row_id"].isin(scored).any():
        raise InputError(
            f"retain_only_scores: no row to forget has a score, "
            f"such as {quote(rows.iloc[0].row_id)}"
        )
