"""Nodes of the generation stage."""

from __future__ import annotations

import pandas as pd

from closer_look.data.questions import answers_to_score
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.base import spreads
from closer_look.parameters.evaluation import GenerationParameters, ScoringParameters


def fingerprint_model(model: LanguageModel) -> pd.DataFrame:
    """Hash the model that answers, so that results can be traced to it."""
    from closer_look.models.language_model import model_fingerprint

    return pd.DataFrame({"sha256": [model_fingerprint(model)]})


@spreads("scoring")
def score_answers(
    model: LanguageModel,
    evaluation: pd.DataFrame,
    scoring: ScoringParameters,
    holdout: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Score the gold, paraphrased and wrong answers of every question to evaluate.

    For membership inference, it also scores the gold answers of rows that no model has seen, and
    adds the moments of all scores.
    """
    from closer_look.inference.replicas import on_replicas
    from closer_look.inference.scoring import score

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


@spreads("generation")
def generate_answers(
    model: LanguageModel,
    evaluation: pd.DataFrame,
    scores: pd.DataFrame,
    generation: GenerationParameters,
) -> pd.DataFrame:
    """Generate an answer to every question to evaluate.

    The scores tell how many tokens of the gold answer greedy decoding would produce; decoding
    starts after these.
    """
    from closer_look.inference.generation import generate
    from closer_look.inference.replicas import on_replicas
    from closer_look.inference.scoring import greedy_prefixes
    from closer_look.models.instruction import instruction_length

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
