"""A candidate for the current model: how it is made, and what is measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from closer_look import metrics
from closer_look.data.planning import draw_plan
from closer_look.errors import InputError
from closer_look.evaluation.judges import judge
from closer_look.evaluation.measurement import generate_answers, score_answers
from closer_look.parameters.methods import MethodParameters, settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from closer_look.models.language_model import LanguageModel
    from closer_look.parameters.attacks import StressParameters
    from closer_look.parameters.erasure import AttemptParameters, ErasureParameters
    from closer_look.parameters.evaluation import (
        GenerationParameters,
        JudgesParameters,
        MetricsParameters,
        ScoringParameters,
    )
    from closer_look.parameters.experiment import ForgetSetParameters
    from closer_look.parameters.training import UnlearningParameters

REQUEST = 1
"""Number of the task that stands for a request in tables; earlier requests have those after it."""


@dataclass(frozen=True)
class Settings:
    """The parameters of a service, by their groups."""

    erasure: ErasureParameters
    methods: Mapping[str, Any]
    unlearning: UnlearningParameters
    forget_set: ForgetSetParameters
    generation: GenerationParameters
    scoring: ScoringParameters
    judges: JudgesParameters
    metrics: MetricsParameters
    attacks: Mapping[str, Any]
    stress: StressParameters

    def of(self, attempt: AttemptParameters) -> tuple[MethodParameters, UnlearningParameters]:
        """Return the method of an attempt, with the settings of its training.

        Raises:
            InputError: there is no such method, or it cannot serve requests.
        """
        name = attempt.method or self.erasure.method
        if name not in self.methods:
            known = ", ".join(sorted(self.methods))
            raise InputError(f"parameter erasure: unknown method '{name}', choose from {known}")
        method = MethodParameters.model_validate(self.methods[name])
        if method.instruction:
            raise InputError(
                f"parameter erasure: method '{name}' trains nothing: what it is to keep silent on "
                f"would stand in the model's prompt; choose a method that trains"
            )
        settings = settings_of(method, self.unlearning)
        changed = {
            "learning_rate": settings.learning_rate * attempt.learning_rate_factor,
            "epochs": attempt.epochs or settings.epochs,
        }
        method = method.model_copy(update=changed)
        return method, settings_of(method, self.unlearning)


class Measured(NamedTuple):
    """What was measured of a model."""

    model_utility: dict[str, Any] | None
    """``value``, ``low``, ``high`` and ``n_rows``; None if no row to retain has a value."""
    forget_efficacy: dict[int, dict[str, Any] | None]
    """The same by number of task."""
    known: dict[int, dict[str, Any]]
    """Share of a task's rows that the model answers as ``evaluation.knowledge`` asks for."""
    tables: dict[str, pd.DataFrame]
    """``generations`` and ``row_metrics``; the former hold texts."""

    def of(self, task_id: int) -> dict[str, Any]:
        """Return the numbers of a request, for the ledger."""
        return {
            "model_utility": self.model_utility,
            "forget_efficacy": self.forget_efficacy.get(task_id),
            "known": self.known.get(task_id),
        }


def unlearn(
    language_model: LanguageModel,
    questions: pd.DataFrame,
    refusals: Sequence[str],
    attempt: AttemptParameters,
    settings: Settings,
    number: int,
    checkpoints: Path | None = None,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Make a candidate.

    Args:
        language_model: the current model, changed in place.
        questions: rows to retain, and those to forget, which are task 1.
        refusals: refusal sentences.
        attempt: what is tried.
        settings: the parameters.
        number: of the request in the ledger; it and the seed determine the plan.
        checkpoints: see ``training.unlearning.unlearn``.

    Returns:
        The model and its training log.
    """
    from closer_look.training.alternates import make_alternates, with_alternates
    from closer_look.training.reference import reference_scores
    from closer_look.training.unlearning import unlearn as train

    method, training = settings.of(attempt)
    plan = draw_plan(
        questions,
        refusals,
        REQUEST,
        epochs=training.epochs,
        pairing=settings.forget_set.pairing,
        generator=np.random.default_rng([settings.forget_set.seed, number]),
    )
    if method.alternates:
        rows = questions[questions["task_id"] == REQUEST]
        length = settings.generation.max_length
        alternates = make_alternates(language_model, rows, method.alternates, length, training.seed)
        plan = with_alternates(plan, alternates)
    scores = reference_scores(language_model, plan, questions, method, settings.scoring.batch_size)
    return train(
        language_model,
        plan,
        questions,
        scores,
        method,
        training,
        checkpoints,
        description=f"Unlearning with {method.label}",
    )


def measure(language_model: LanguageModel, rows: pd.DataFrame, settings: Settings) -> Measured:
    """Measure a model on rows to retain (task 0) and on those of requests (tasks from 1)."""
    rows = rows.reset_index(drop=True)
    scores = score_answers(language_model, rows, settings.scoring)
    generations = generate_answers(language_model, rows, scores, settings.generation)
    judges = settings.judges
    judgements = judge(generations, rows, judges.embedder, judges.entailment)
    records = settings.metrics.records
    row_metrics = metrics.row_metrics(scores, generations, judgements, records)
    summary = metrics.summarise(row_metrics, settings.metrics.resamples, settings.metrics.seed)
    n_rows = row_metrics.groupby("task_id").size()
    numbers = {
        (line.metric, line.task_id): _number(line, int(n_rows.get(line.task_id, 0)))
        for line in summary.itertuples()
    }
    is_known = row_metrics["rouge"] >= settings.forget_set.min_rouge
    if judges.entailment:
        is_known &= row_metrics["entailment"] == 1
    tasks = [task_id for task_id in n_rows.index if task_id]
    known = is_known.groupby(row_metrics["task_id"]).mean()
    return Measured(
        numbers["model_utility", 0],
        {task_id: numbers["forget_efficacy", task_id] for task_id in tasks},
        {
            task_id: {"value": float(known[task_id]), "n_rows": int(n_rows[task_id])}
            for task_id in tasks
        },
        {"generations": generations, "row_metrics": row_metrics},
    )


def _number(line: Any, n_rows: int) -> dict[str, Any] | None:
    if pd.isna(line.value):
        return None
    bounds = {"low": line.ci_low, "high": line.ci_high}
    found = {name: float(value) for name, value in bounds.items() if not pd.isna(value)}
    return {"value": float(line.value), **found, "n_rows": n_rows}
