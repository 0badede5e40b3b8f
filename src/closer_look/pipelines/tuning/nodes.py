"""Nodes of the tuning stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from closer_look.data import validation as rows
from closer_look.data.questions import name_subjects
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.base import depends_on, ignores, spreads
from closer_look.parameters.evaluation import (
    GenerationParameters,
    JudgesParameters,
    ScoringParameters,
)
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.groups import as_model
from closer_look.parameters.methods import MethodParameters, faults_of
from closer_look.parameters.training import UnlearningParameters
from closer_look.parameters.tuning import TuningParameters, spaces_table
from closer_look.training.reference_scores import ReferenceCache

Figure = Any  # of plotly, whose import is slow: Kedro resolves the annotations of nodes


@depends_on(tuning=("space",))
def list_spaces(
    questions: pd.DataFrame,
    tuning: TuningParameters,
    unlearning: UnlearningParameters,
    **methods: dict[str, Any],
) -> pd.DataFrame:
    """List what is searched for each method that trains; check all before anything is trained."""
    from closer_look.evaluation.study import check_optuna

    check_optuna()
    checked = {name: as_model(f"methods.{name}", values) for name, values in methods.items()}
    for name, method in checked.items():
        with faults_of(name):
            name_subjects(method.instruction or "", questions)
    tuned = {name: method for name, method in checked.items() if not method.instruction}
    return spaces_table(tuned, unlearning, tuning)


@depends_on(tuning=("validation_share", "n_tasks", "seed"))
def draw_validation(evaluation: pd.DataFrame, tuning: TuningParameters) -> list[pd.DataFrame]:
    """Draw the rows on which settings are chosen, and list those left to report after each task."""
    validation = rows.draw_validation(evaluation, tuning.validation_share, tuning.seed)
    n_tasks = int(validation["task_id"].max())  # of the scenario, which may have fewer than the run
    rows.check_tasks(tuning.n_tasks, n_tasks)
    reported = evaluation[~evaluation["row_id"].isin(validation["row_id"])]
    return [
        validation,
        *(
            reported[reported["task_id"] <= task_id].reset_index(drop=True)
            for task_id in range(1, n_tasks + 1)
        ),
    ]


@spreads("unlearning", computes=True)
@depends_on(experiment=("reference",), forget_set=("pairing",))
@ignores(method=("label",), unlearning=("seed",))
def tune_method(
    target_model: LanguageModel,
    questions: pd.DataFrame,
    refusals: list[str],
    validation: pd.DataFrame,
    reference_cache: Path,
    study: Path,
    method: MethodParameters,
    experiment: Experiment,
    forget_set: ForgetSetParameters,
    unlearning: UnlearningParameters,
    generation: GenerationParameters,
    scoring: ScoringParameters,
    judges: JudgesParameters,
    tuning: TuningParameters,
) -> tuple[MethodParameters, pd.DataFrame]:
    """Find the settings with which the method does best on the validation rows."""
    from closer_look.evaluation.tuning import TuningContext, tune

    context = TuningContext(
        questions,
        refusals,
        experiment.reference,
        forget_set.pairing,
        unlearning,
        generation,
        scoring,
        judges,
        tuning,
        tuning.n_tasks or int(validation["task_id"].max()),
        ReferenceCache(reference_cache),
    )
    return tune(target_model, validation, method, context, study)


@depends_on(method=("label", "space"), tuning=("space", "objective"))
def plot_study(
    trials: pd.DataFrame, method: MethodParameters, tuning: TuningParameters
) -> tuple[Figure, Figure]:
    """Draw the trials of a method: one after another, and by their settings."""
    from closer_look.reporting import figures_of_tuning as figures

    space = tuning.space | method.space
    return figures.history(trials, space, method.label), figures.parallel_coordinates(
        trials, space, method.label
    )


def plot_pareto_fronts(trials: pd.DataFrame, **labels: str) -> Figure:
    """Draw what all trials keep and forget, and which of them no other one beats."""
    from closer_look.reporting import figures_of_tuning as figures

    return figures.pareto_fronts(trials, labels)
