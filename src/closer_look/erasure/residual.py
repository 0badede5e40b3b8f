"""What attacks get back from a candidate of what the current model knew."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from closer_look import metrics
from closer_look.data.cells import BEFORE
from closer_look.errors import InputError
from closer_look.evaluation.attacks import ATTACKS, AttackContext, find_attack
from closer_look.evaluation.attacks.judging import judge_lines, plain_lines
from closer_look.evaluation.attacks.rows import draw_rows
from closer_look.parameters.attacks import AttackParameters

if TYPE_CHECKING:
    from closer_look.erasure.candidates import Settings
    from closer_look.evaluation.attacks import Attack
    from closer_look.models.language_model import LanguageModel

CANDIDATE = "candidate"


def residual_knowledge(
    candidate: LanguageModel,
    load_current: Callable[[], LanguageModel],
    questions: pd.DataFrame,
    row_metrics: tuple[pd.DataFrame, pd.DataFrame],
    settings: Settings,
) -> dict[str, Any]:
    """Attack a candidate, and measure the most that any attack gets back.

    Args:
        candidate: the model.
        load_current: loads the model before it, which some attacks compare with.
        questions: rows to retain, and those to forget, with their tasks.
        row_metrics: of the current model and of the candidate.
        settings: the parameters.

    Returns:
        The labels of the ``attacks`` that were run and ``n_rows``; if the current model knew
        anything, ``value``, ``low`` and ``high``, and the ``attack`` that got back the most.
    """
    attacks = check_attacks(settings)
    rows = draw_rows(questions, settings.stress.rows, settings.stress.seed)
    groups = (settings.unlearning, settings.generation, settings.scoring)
    context = AttackContext(questions, *groups, settings.stress.seed)
    lines = [
        plain_lines(table, rows).assign(method=method, attack=metrics.PLAIN)
        for method, table in zip((BEFORE, CANDIDATE), row_metrics, strict=True)
    ]
    attacks = {name: one for name, one in attacks.items() if not one[0].lacks(rows)}
    for name, (record, given) in attacks.items():
        # In a function: no model of one attack is held while the next reads its own.
        found = _attack(record, given, candidate, load_current, rows, context)
        for method, answers in found.items():
            judged = judge_lines(answers, rows, settings.judges)
            lines.append(judged.assign(method=method, attack=name))
    internal = [name for name, (record, _) in attacks.items() if record.internal]
    options = {"n_resamples": settings.metrics.resamples, "seed": settings.metrics.seed}
    table = metrics.residual_knowledge(pd.concat(lines), BEFORE, internal, **options)
    line = table.set_index("method").loc[CANDIDATE]
    labels = [given.label or record.label for record, given in attacks.values()]
    found = {"n_rows": len(rows), "attacks": labels}
    if pd.isna(line["value"]):
        return found
    bounds = {"value": line["value"], "low": line["ci_low"], "high": line["ci_high"]}
    return (
        found | {name: float(bound) for name, bound in bounds.items()} | {"attack": line["attack"]}
    )


def _attack(
    record: Attack,
    given: AttackParameters,
    candidate: LanguageModel,
    load_current: Callable[[], LanguageModel],
    rows: pd.DataFrame,
    context: AttackContext,
) -> dict[str, pd.DataFrame]:
    """Return what an attack gets from the candidate and, if it looks inside, the current model."""
    current = load_current() if record.compared_with or record.internal else None
    others = {"target_model": current} if record.compared_with else {}
    attacked = {CANDIDATE: candidate} | ({BEFORE: current} if record.internal else {})
    return {
        method: record.function(model, rows, context, **others, **given.hyperparameters)
        for method, model in attacked.items()
    }


def check_attacks(settings: Settings) -> dict[str, tuple[Attack, AttackParameters]]:
    """Return the attacks that the gate asks for.

    Raises:
        InputError: one is unknown, or cannot be made here.
    """
    found = {}
    for name in settings.erasure.attacks:
        if name not in settings.attacks:
            known = ", ".join(sorted(settings.attacks))
            raise InputError(
                f"parameter erasure.attacks: unknown attack '{name}', choose from {known}"
            )
        given = AttackParameters.model_validate(settings.attacks[name])
        found[name] = find_attack(given.attack, ATTACKS), given
        if found[name][0].needs_retain_only:
            raise InputError(
                f"parameter erasure.attacks: '{name}' compares with a retain-only model, which "
                f"requests have none of; leave it out"
            )
    return found
