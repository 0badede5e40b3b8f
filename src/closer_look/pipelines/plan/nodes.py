"""Nodes of the plan."""

from __future__ import annotations

from typing import Any

import pandas as pd

from closer_look.parameters.evaluation import GenerationParameters, ScoringParameters
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.groups import as_model
from closer_look.parameters.models import BaseModelParameters, PromptParameters
from closer_look.parameters.plan import PlanParameters
from closer_look.parameters.training import FinetuningParameters, UnlearningParameters


def estimate_run(
    questions: pd.DataFrame,
    unknown_questions: pd.DataFrame,
    refusals: list[str],
    experiment: Experiment,
    base_model: BaseModelParameters,
    prompt: PromptParameters,
    forget_set: ForgetSetParameters,
    finetuning: FinetuningParameters,
    unlearning: UnlearningParameters,
    scoring: ScoringParameters,
    generation: GenerationParameters,
    plan: PlanParameters,
    **methods: dict[str, Any],
) -> dict[str, Any]:
    """Estimate what the run needs of devices and disk, and how long it takes; show it."""
    from rich.console import Console

    from closer_look.reporting.estimate import estimate
    from closer_look.reporting.fit import as_tables
    from closer_look.reporting.work import Shape

    checked = {name: as_model(f"methods.{name}", values) for name, values in methods.items()}
    trainings, evaluations = (finetuning, unlearning), (scoring, generation)
    shape = Shape(experiment, base_model, prompt, forget_set, *trainings, *evaluations, checked)
    found = estimate(shape, plan, questions, unknown_questions, refusals)
    console = Console()
    for part in as_tables(found):
        console.print(part)
    return found
