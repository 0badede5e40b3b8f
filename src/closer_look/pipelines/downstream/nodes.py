"""Node of the downstream stage."""

from __future__ import annotations

import pandas as pd

from closer_look.models.language_model import LanguageModel
from closer_look.parameters.evaluation import DownstreamParameters


def measure_abilities(model: LanguageModel, downstream: DownstreamParameters) -> pd.DataFrame:
    """Measure a model's general abilities with lm-evaluation-harness."""
    from closer_look.evaluation.downstream import evaluate_downstream

    return evaluate_downstream(model, downstream)
