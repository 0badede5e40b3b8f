"""Selection of the questions that a model can answer: nothing else can be forgotten."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pandas as pd

from closer_look.errors import InputError
from closer_look.evaluation.judges import check_judges, judge
from closer_look.inference.generation import generate
from closer_look.metrics import rouge_l_recall

if TYPE_CHECKING:
    from closer_look.models.language_model import LanguageModel
    from closer_look.parameters.evaluation import GenerationParameters, JudgesParameters

log = logging.getLogger(__name__)


def select_known(
    language_model: LanguageModel,
    questions: pd.DataFrame,
    min_rouge: float,
    generation: GenerationParameters,
    judges: JudgesParameters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep the questions that the model can answer.

    An answer counts if it has the words of the gold answer and the entailment judge finds the fact
    in it. The words alone are not enough: a wrong name in the right sentence has most of them.

    Args:
        language_model: the model that answers.
        questions: rows of the questions table.
        min_rouge: smallest ROUGE-L recall of an answer that counts.
        generation: settings of decoding.
        judges: the entailment judge; without one, the words decide alone.

    Returns:
        The rows kept, and a row per split: ``split``, ``n_rows``, ``n_known``, ``min_rouge``.

    Raises:
        InputError: no question of a split or task is left.
    """
    check_judges(questions, judges.embedder, judges.entailment)
    answers = generate(
        language_model,
        list(questions["question"]),
        generation.max_length,
        generation.batch_size,
        description="Answering candidates",
    )
    recall = rouge_l_recall(answers["generated"], questions["gold_answer"])
    is_known = pd.Series(recall >= min_rouge, questions.index)
    judged = judge(
        questions[["row_id"]].join(answers), questions, judges.embedder, judges.entailment
    )
    if judges.entailment:
        is_known &= judged["entailment"]
    counts = (
        questions.assign(known=is_known)
        .groupby("split", sort=False, as_index=False)
        .agg(n_rows=("known", "size"), n_known=("known", "sum"))
        .assign(min_rouge=min_rouge)
    )
    for split, n_rows, n_known, _ in counts.itertuples(index=False):
        log.info("%s: the model can answer %d of %d questions", split, n_known, n_rows)
    sets = [questions["split"], questions["task_id"]]
    for (split, task_id), known in is_known.groupby(sets, sort=False):
        if not known.any():
            raise InputError(
                f"parameter forget_set.min_rouge: at {min_rouge} the target model can "
                f"answer no question of " + (f"task {task_id}" if task_id else f"split '{split}'")
            )
    return questions[is_known].reset_index(drop=True), counts
