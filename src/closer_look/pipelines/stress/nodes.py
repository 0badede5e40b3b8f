"""Nodes of the stress stage.

Keyword arguments hold tables by the namespaces of their cells, or parameters of attacks by name.
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from closer_look import metrics
from closer_look.data.cells import BEFORE, Cell
from closer_look.errors import InputError
from closer_look.evaluation.attacks import ATTACKS, AttackContext, find_attack
from closer_look.evaluation.attacks.attack import PLAIN_LABEL, PLAIN_SENTENCE
from closer_look.evaluation.attacks.rows import draw_rows
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.attacks import AttackParameters, StressParameters
from closer_look.parameters.base import depends_on, ignores
from closer_look.parameters.evaluation import (
    GenerationParameters,
    JudgesParameters,
    MetricsParameters,
    ScoringParameters,
)
from closer_look.parameters.experiment import Experiment
from closer_look.parameters.training import UnlearningParameters
from closer_look.reporting.run_record import plain

NO_RETAIN_ONLY_MODEL = "it compares with a retain-only model, and the run has none"

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
    **other_models: LanguageModel,
) -> pd.DataFrame:
    """Attack a model; where no row can be attacked, the reason is the only line."""
    record = find_attack(attack.attack, ATTACKS)
    missing = record.lacks(attacked_rows)
    if missing:
        log.warning("%s is left out: %s", attack.label or record.label, missing)
        return pd.DataFrame({"reason": [missing]})
    context = AttackContext(questions, unlearning, generation, scoring, stress.seed)
    return record.function(model, attacked_rows, context, **other_models, **attack.hyperparameters)


def judge_attack(
    attacked: pd.DataFrame, attacked_rows: pd.DataFrame, judges: JudgesParameters
) -> pd.DataFrame:
    """Judge what the attack got back of each row; of several answers the worst counts."""
    from closer_look.evaluation.attacks.judging import judge_lines

    return judge_lines(attacked, attacked_rows, judges)


def stack_recovered(attacked_rows: pd.DataFrame, **cells: pd.DataFrame) -> pd.DataFrame:
    """Stack what the attacks got back, and what plain asking does.

    Args:
        attacked_rows: the rows attacked.
        cells: what an attack got back of a model, or row metrics of a model.
    """
    from closer_look.evaluation.attacks.judging import plain_lines

    stacked = []
    for name, table in cells.items():
        cell = Cell.parse(name)
        lines = table if cell.attack else plain_lines(table, attacked_rows)
        of = {"method": cell.method, "after_task": cell.after_task}
        stacked.append(lines.assign(**of, attack=cell.attack or metrics.PLAIN))
    return pd.concat(stacked, ignore_index=True)


@depends_on(parameters=("resamples", "seed"))
def measure_residual(
    recovered: pd.DataFrame, parameters: MetricsParameters, **attacks: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure what each attack gets back of what was known, and the most that any does."""
    given = {name: AttackParameters.model_validate(plain(one)) for name, one in attacks.items()}
    records = {name: find_attack(one.attack, ATTACKS) for name, one in given.items()}
    words = {metrics.PLAIN: (PLAIN_LABEL, PLAIN_SENTENCE)} | {
        name: (given[name].label or record.label, record.sentence)
        for name, record in records.items()
    }
    is_made = recovered["row_id"].notna()
    left_out = recovered[~is_made].drop_duplicates("attack").set_index("attack")["reason"].to_dict()
    left_out |= {
        name: NO_RETAIN_ONLY_MODEL for name in records if name not in set(recovered["attack"])
    }
    options = {"n_resamples": parameters.resamples, "seed": parameters.seed}
    internal = [name for name, record in records.items() if record.internal]
    measured = recovered[is_made], BEFORE, internal
    results = metrics.attack_results(*measured, **options)
    lines = [{"attack": name, "reason": reason} for name, reason in left_out.items()]
    results = pd.concat([results, pd.DataFrame(lines)], ignore_index=True)
    residual = metrics.residual_knowledge(*measured, **options)
    return _with_words(results, words), _with_words(residual, words)


def _with_words(table: pd.DataFrame, words: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Name attacks as a reader knows them."""
    label, sentence = (
        table["attack"].map({name: word[place] for name, word in words.items()}).fillna("")
        for place in (0, 1)
    )
    return table.assign(label=label, sentence=sentence)
