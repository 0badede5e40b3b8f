"""Relearning: a few steps of training may bring back what was hidden and not removed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from closer_look.evaluation.attacks.attack import AttackContext
from closer_look.evaluation.attacks.weights import ask_rows, weights_restored
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.training import FinetuningParameters, OptimiserParameters

log = logging.getLogger(__name__)


class Material(NamedTuple):
    """What an attacker trains on, and the rows that are asked for afterwards."""

    name: str
    questions: list[str]
    answers: list[str]
    asked: pd.DataFrame


def relearning(
    model: LanguageModel,
    rows: pd.DataFrame,
    context: AttackContext,
    *,
    steps: Annotated[list[PositiveInt], Field(min_length=1)],
    shown: PositiveInt,
) -> pd.DataFrame:
    """Ask again after a few steps of training (arXiv 2406.13356, arXiv 2402.16835).

    An attacker trains on one of three materials:

    * a few of the forgotten rows. Only the *other* rows are asked for: what an attacker has is
      not given back;
    * the questions about the subjects, without answers: the model learns to write a question when
      it is given the subject's name;
    * rows that have nothing to do with it: those of the retain, real authors and world facts sets.

    The optimiser, its rate, the batch size and the precision are those of unlearning. The training
    stops at each number of steps to ask, and goes on from there: each stage is a fine-tuning
    without warm-up, whose rate falls to 0. Of a model with adapters, these are trained.

    Args:
        model: the model attacked, given back as it was.
        rows: the rows attacked.
        context: settings of training and generation, and the seed of all draws.
        steps: numbers of training steps.
        shown: number of forgotten rows to train on, at most half of them.

    Returns:
        See ``weights.ask_rows``; a setting for each material and number of steps. A material that
        the run does not have is left out.
    """
    answers = []
    for material in _materials(rows, context, shown):
        done = 0
        with weights_restored(model.model):
            for n_steps in sorted(steps):
                _train(model, material, range(done, n_steps), context)
                done = n_steps
                setting = f"{n_steps} steps on {material.name}"
                answers.append(ask_rows(model, material.asked, context, setting))
    return pd.concat(answers, ignore_index=True)


def _materials(rows: pd.DataFrame, context: AttackContext, shown: int) -> Iterator[Material]:
    generator = np.random.default_rng(context.seed)
    n_shown = min(shown, len(rows) // 2)
    if n_shown:
        chosen = generator.permutation(len(rows)) < n_shown
        given = rows[chosen]
        name = f"{n_shown} of the rows"
        yield Material(name, list(given["question"]), list(given["answer"]), rows[~chosen])
    about = rows[rows["subject"].notna()]
    if len(about):
        name = "questions without answers"
        yield Material(name, list(about["subject"]), list(about["question"]), rows)
    else:
        log.warning("Relearning leaves out questions without answers: no row has a subject")
    others = context.questions
    unrelated = others[others["split"].isin(["retain", "real_authors", "world_facts"])]
    if len(unrelated):
        name = "unrelated rows"
        yield Material(name, list(unrelated["question"]), list(unrelated["answer"]), rows)


def _train(model: LanguageModel, material: Material, steps: range, context: AttackContext) -> None:
    """Train on the rows of some steps, as they come when all rows are gone through in turn."""
    from closer_look.training.finetuning import finetune

    shared = {name: getattr(context.unlearning, name) for name in OptimiserParameters.model_fields}
    own = {"epochs": 1, "warmup_epochs": 0, "seed": context.seed, "report_to": ()}
    parameters = FinetuningParameters(**shared | own)
    n_rows, size = len(material.questions), parameters.batch_size
    order = np.random.default_rng(context.seed).permutation(n_rows)
    chosen = [order[i % n_rows] for i in range(steps.start * size, steps.stop * size)]
    finetune(
        model,
        [material.questions[i] for i in chosen],
        [material.answers[i] for i in chosen],
        parameters,
        description="Relearning",
    )
