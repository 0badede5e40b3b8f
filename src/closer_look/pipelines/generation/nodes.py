"""Nodes of the generation stage."""

from __future__ import annotations

import pandas as pd

from closer_look.language_model import LanguageModel
from closer_look.parameters import GenerationParameters, ScoringParameters


def generate_answers(
    model: LanguageModel, evaluation: pd.DataFrame, generation: GenerationParameters
) -> pd.DataFrame:
    """Let the model answer every question to evaluate."""
    from closer_look.generation import generate

    answers = generate(
        model, list(evaluation["question"]), generation.max_length, generation.batch_size
    )
    rows = evaluation[["split", "task_id", "row_id", "question"]]
    return rows.assign(reference=evaluation["gold_answer"]).join(answers)


def score_answers(
    model: LanguageModel, evaluation: pd.DataFrame, scoring: ScoringParameters
) -> pd.DataFrame:
    """Score the gold answer, its paraphrase and the wrong answers of every question to evaluate."""
    from closer_look.scoring import given_answers, score

    answers = given_answers(evaluation)
    scores = score(model, list(answers["question"]), list(answers["text"]), scoring.batch_size)
    return answers[["split", "row_id", "kind"]].join(scores)
