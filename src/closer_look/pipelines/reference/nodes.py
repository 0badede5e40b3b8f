"""Nodes of the reference stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from closer_look.models.language_model import LanguageModel
from closer_look.parameters.base import ignores
from closer_look.parameters.evaluation import ScoringParameters
from closer_look.parameters.methods import MethodParameters
from closer_look.training.reference_scores import ReferenceCache, ReferenceScores


@ignores(method=("label", "space"))
def score_reference(
    model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    method: MethodParameters,
    scoring: ScoringParameters,
    reference_cache: Path,
    alternates: pd.DataFrame | None = None,
) -> ReferenceScores:
    """Compute the reference scores that the method's losses read."""
    from closer_look.training.alternates import with_alternates
    from closer_look.training.reference import reference_scores

    if alternates is not None:
        plan = with_alternates(plan, alternates)
    cache = ReferenceCache(reference_cache)
    return reference_scores(model, plan, questions, method, scoring.batch_size, cache)
