"""Nodes of the unlearning stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from closer_look.models.language_model import LanguageModel
from closer_look.parameters.base import ignores
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.training.reference_scores import ReferenceScores


@ignores(method=("label",))
def unlearn(
    previous_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    reference_scores: ReferenceScores,
    method: MethodParameters,
    unlearning: UnlearningParameters,
    training_checkpoints: Path,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Unlearn a task's rows, starting from the model after the previous task."""
    from closer_look.training.unlearning import unlearn as train

    return train(
        previous_model,
        plan,
        questions,
        reference_scores,
        method,
        unlearning,
        training_checkpoints,
        description=f"Unlearning with {method.label}",
    )
