"""What is asked of a model: probabilities of given answers, and answers of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from closer_look import metrics
from closer_look.data.questions import answers_to_score
from closer_look.evaluation.judges import judge
from closer_look.inference.generation import generate
from closer_look.inference.replicas import on_replicas
from closer_look.inference.scoring import greedy_prefixes, score
from closer_look.models.instruction import instruction_length

if TYPE_CHECKING:
    from closer_look.models.language_model import LanguageModel
    from closer_look.parameters.evaluation import (
        GenerationParameters,
        JudgesParameters,
        ScoringParameters,
    )


def score_answers(
    model: LanguageModel,
    evaluation: pd.DataFrame,
    scoring: ScoringParameters,
    holdout: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Score the gold, paraphrased and wrong answers of every question to evaluate.

    Args:
        model: put into evaluation mode.
        evaluation: rows of the questions table.
        scoring: settings of scoring.
        holdout: for membership inference, rows that no model has seen: their gold answers are
            scored, too, and all scores get their moments.

    Returns:
        ``split``, ``row_id``, ``kind`` of the answer, and the columns of ``score``.
    """
    answers = answers_to_score(evaluation, holdout)
    scores = on_replicas(
        score,
        model,
        {"questions": list(answers["question"]), "answers": list(answers["text"])},
        parameter="scoring.workers",
        n_workers=scoring.workers,
        description="Scoring",
        batch_size=scoring.batch_size,
        with_moments=holdout is not None,
    )
    return answers[["split", "row_id", "kind"]].join(scores)


def generate_answers(
    model: LanguageModel,
    evaluation: pd.DataFrame,
    scores: pd.DataFrame,
    generation: GenerationParameters,
) -> pd.DataFrame:
    """Generate an answer to every question to evaluate.

    Args:
        model: put into evaluation mode.
        evaluation: rows of the questions table.
        scores: from ``score_answers``. They tell how many tokens of the gold answer greedy decoding
            would produce; decoding starts after these.
        generation: settings of decoding.

    Returns:
        ``split``, ``task_id``, ``row_id``, ``question``, ``reference``, and the columns of
        ``generate``.
    """
    questions, gold = list(evaluation["question"]), evaluation["gold_answer"]
    hits = scores.loc[scores["kind"] == "answer", "token_hits"].head(len(evaluation))
    openings = greedy_prefixes(model.tokenizer, questions, list(gold), list(hits))
    answers = on_replicas(
        generate,
        model,
        {"questions": questions, "openings": openings},
        parameter="generation.workers",
        n_workers=generation.workers,
        description="Generating",
        max_length=generation.max_length + instruction_length(model.tokenizer),
        batch_size=generation.batch_size,
    )
    rows = evaluation[["split", "task_id", "row_id", "question"]]
    return rows.assign(reference=gold).join(answers)


def measure(
    model: LanguageModel,
    evaluation: pd.DataFrame,
    scoring: ScoringParameters,
    generation: GenerationParameters,
    judges: JudgesParameters,
) -> pd.DataFrame:
    """Ask a model the questions of rows, and compute the project's metrics of each.

    Returns:
        See ``metrics.row_metrics``.
    """
    scores = score_answers(model, evaluation, scoring)
    generations = generate_answers(model, evaluation, scores, generation)
    judgements = judge(generations, evaluation, judges.embedder, judges.entailment)
    return metrics.row_metrics(scores, generations, judgements)
