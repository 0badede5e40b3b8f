"""The report's section on attacks: what an attacker gets back of what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from closer_look.data.cells import RETAIN_ONLY
from closer_look.metrics import PLAIN, relearning_areas
from closer_look.reporting.results import REFERENCE_LABELS

N_EXAMPLES = 4


def describe_attacks(
    recovered: pd.DataFrame,
    attack_results: pd.DataFrame,
    residual_knowledge: pd.DataFrame,
    answers: pd.DataFrame,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Describe the attacks of a run for the report.

    Args:
        recovered: what each attack got back of each row, stacked.
        attack_results: see ``metrics.attack_results``, with ``label`` and ``sentence``.
        residual_knowledge: see ``metrics.residual_knowledge``, with ``label``.
        answers: table from ``results.answers_table``.
        labels: method -> label.
    """
    is_made = attack_results["method"].notna()
    made, left_out = attack_results[is_made], attack_results[~is_made]
    of_models = REFERENCE_LABELS | dict(labels)
    attacks = made[made["attack"] != PLAIN].drop_duplicates("attack")
    return {
        "n_rows": recovered["row_id"].nunique(),
        "models": _models(made, residual_knowledge, of_models),
        "attacks": attacks[["label", "sentence"]].to_dict("records"),
        "left_out": left_out[["label", "reason"]].to_dict("records"),
        "examples": _examples(recovered, made, answers, labels),
        "details": _details(made, of_models),
        "relearning": _relearning(made, labels),
    }


def _attack(row: Any) -> str:
    if not row.value > 0:
        return "nothing came back"
    return f"{row.label}, {row.setting}" if row.setting else row.label


def _models(
    made: pd.DataFrame, residual_knowledge: pd.DataFrame, of_models: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Tabulate each model: what plain asking and what the best attack gives back."""
    plain = made[made["attack"] == PLAIN].set_index("method")
    return [
        {
            "label": of_models[row.method],
            "is_reference": row.method in REFERENCE_LABELS,
            "plain": plain.loc[row.method].to_dict(),
            "most": row._asdict(),
            "attack": _attack(row),
            "reason": row.reason,
        }
        for row in residual_knowledge.itertuples()
    ]


def _examples(
    recovered: pd.DataFrame,
    made: pd.DataFrame,
    answers: pd.DataFrame,
    labels: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Pick answers that gave a fact away which the plain question did not, of each method in turn.

    They are of the attack that got most back of the method among those that ask.
    """
    questions = answers[answers["split"] == "forget"].set_index("row_id")
    plain = recovered[recovered["attack"] == PLAIN].set_index(["method", "row_id"])["recovered"]
    told = recovered[recovered["generated"].notna() & (recovered["attack"] != PLAIN)]
    picked = []
    for method, label in labels.items():
        of_method = made[(made["method"] == method) & made["attack"].isin(told["attack"])]
        if of_method.empty:
            continue
        best = next(of_method.nlargest(1, "recovered").itertuples())
        lines = told[
            (told["method"] == method)
            & (told["attack"] == best.attack)
            & (told["setting"] == best.setting)
        ]
        gains = lines["recovered"] - plain.loc[method].reindex(lines["row_id"]).to_numpy()
        for place, row in enumerate(lines[gains > 0].itertuples()):
            of_row = questions.loc[row.row_id]
            example = {
                "method": label,
                "question": of_row["question"],
                "reference": of_row["reference"],
                "plain_answer": of_row[label],
                "attack": _attack(best),
                "asked": row.question,
                "given": row.given if isinstance(row.given, str) else "",
                "answer": row.generated,
            }
            picked.append((place, example))
    picked.sort(key=lambda pair: pair[0])  # the first of each method, then the second of each
    return [example for _, example in picked[:N_EXAMPLES]]


def _relearning(made: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Say how much faster each method's model relearns than one that never knew."""
    curves = made[made["attack"] == "relearning"]
    if RETAIN_ONLY not in set(curves["method"]):
        return []
    areas = relearning_areas(curves, RETAIN_ONLY)
    return [
        f"{label}: "
        + ", ".join(
            f"{100 * row.area:+.0f} points on {row.material}"
            for row in areas[areas["method"] == method].itertuples()
        )
        for method, label in labels.items()
    ]


def _details(made: pd.DataFrame, of_models: Mapping[str, str]) -> dict[str, Any]:
    """Tabulate every setting of every attack: what is got back of each model."""
    models = [name for name in of_models if name in set(made["method"])]
    rows = []
    for (attack, setting), lines in made.groupby(["attack", "setting"], sort=False):
        of = lines.set_index("method")
        cells = [of.loc[name].to_dict() if name in of.index else None for name in models]
        first = lines.iloc[0]
        rows.append({"label": first["label"], "setting": setting, "cells": cells, "attack": attack})
    return {"models": [of_models[name] for name in models], "rows": rows}
