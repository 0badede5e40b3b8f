"""Nodes of the generation stage."""

from __future__ import annotations

import pandas as pd

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
    from closer_look.evaluation.measurement import score_answers as score

    return score(model, evaluation, scoring, holdout)


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
    from closer_look.evaluation.measurement import generate_answers as generate

    return generate(model, evaluation, scores, generation)
