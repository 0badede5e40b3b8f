"""Nodes of the stress stage."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from closer_look.errors import InputError
from closer_look.evaluation.attacks import ATTACKS, AttackContext, find_attack
from closer_look.evaluation.attacks.rows import draw_rows
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.attacks import AttackParameters, StressParameters
from closer_look.parameters.base import depends_on, ignores
from closer_look.parameters.evaluation import (
    GenerationParameters,
    JudgesParameters,
    ScoringParameters,
)
from closer_look.parameters.experiment import Experiment
from closer_look.parameters.training import UnlearningParameters

log = logging.getLogger(__name__)


@depends_on(experiment=(), attacks=())
def draw_attacked_rows(
    evaluation: pd.DataFrame,
    stress: StressParameters,
    experiment: Experiment,
    attacks: dict[str, Any],
) -> pd.DataFrame:
    """Draw the rows to attack among the forget rows that are evaluated, evenly over the tasks.

    An attack that the run names, and that none of its rows can bear, stops it before training.
    """
    rows = draw_rows(evaluation, stress.rows, stress.seed)
    chosen = () if experiment.stress in (None, ("all",)) else experiment.stress
    for name in chosen:
        attack = find_attack(AttackParameters.model_validate(attacks[name]).attack, ATTACKS)
        missing = attack.lacks(rows)
        if missing:
            raise InputError(
                f"parameter experiment.stress: {missing}, which attack '{name}' needs; give the "
                f"rows that column, or leave the attack out"
            )
    return rows


@depends_on(stress=("seed",))
@ignores(attack=("label",))
def attack_model(
    model: LanguageModel,
    attacked_rows: pd.DataFrame,
    questions: pd.DataFrame,
    attack: AttackParameters,
    unlearning: UnlearningParameters,
    generation: GenerationParameters,
    scoring: ScoringParameters,
    stress: StressParameters,
    retain_only_model: LanguageModel | None = None,
) -> pd.DataFrame:
    """Attack a model; where no row can be attacked, the reason is the only line."""
    record = find_attack(attack.attack, ATTACKS)
    missing = record.lacks(attacked_rows)
    if missing:
        log.warning("%s is left out: %s", attack.label or record.label, missing)
        return pd.DataFrame({"reason": [missing]})
    context = AttackContext(questions, unlearning, generation, scoring, stress.seed)
    given = {"retain_only_model": retain_only_model} if record.needs_retain_only else {}
    return record.function(model, attacked_rows, context, **given, **attack.hyperparameters)


def judge_attack(
    attacked: pd.DataFrame, attacked_rows: pd.DataFrame, judges: JudgesParameters
) -> pd.DataFrame:
    """Judge what the attack got back of each row; of several answers the worst counts."""
    from closer_look.evaluation.attacks.judging import judge_lines

    return judge_lines(attacked, attacked_rows, judges)
