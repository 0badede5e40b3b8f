"""The model card of an exported model: what was forgotten, how, and what the numbers say.

It holds counts of rows, never their texts: a card that quotes what was forgotten would undo it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from closer_look.data.cells import BEFORE
from closer_look.reporting.membership import tabulate_membership
from closer_look.reporting.method_sentences import describe_method
from closer_look.reporting.pages import page_template
from closer_look.reporting.report import HEADLINE_LIBRARIES
from closer_look.reporting.results import REFERENCE_LABELS
from closer_look.reporting.run_record import plain
from closer_look.reporting.sentences import describe_model
from closer_look.reporting.wording import (
    NEVER_MEASURED,
    NO_ATTACKS,
    NO_BENCHMARKS,
    NO_MEMBERSHIP,
    OTHER_ATTACKS,
)

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from closer_look.parameters.methods import MethodParameters

SETTINGS = ("unlearning", "forget_set", "prompt")
"""Groups of parameters in the card: what made the model, and no folder of this machine."""

SCORES = {
    "model_utility": "Model utility",
    "forget_efficacy_of_tasks_so_far": "Forget efficacy",
}
"""Numbers in the card's metadata: column of the summary table -> name."""


def model_card(
    *,
    method: MethodParameters,
    summary_table: pd.DataFrame,
    questions: pd.DataFrame,
    run_record: Mapping[str, Any],
    adapters: Literal["merged", "separate"],
    membership: pd.DataFrame | None = None,
) -> str:
    """Write the card of a method's last model.

    Args:
        method: the method.
        summary_table: table from ``results.summary_table``.
        questions: all rows of the run.
        run_record: record from ``run_record.run_record``.
        adapters: what becomes of LoRA adapters, where the run trained some.
        membership: how well membership scores tell forgotten rows from others, if that was
            measured.

    Returns:
        Markdown with metadata, as ``huggingface_hub.ModelCard`` reads it.
    """
    parameters = run_record["parameters"]
    base = _base_name(parameters)
    before = summary_table[summary_table["after_task"] == 0].iloc[0]
    after = summary_table[summary_table["method"] == method.label].iloc[-1]
    n_tasks = int(after["after_task"])
    told = tabulate_membership(membership, parameters)
    was_attacked = "residual_knowledge" in after
    lora = parameters["unlearning"].get("lora")
    is_separate = bool(lora) and adapters == "separate"
    task_ids = questions["task_id"]
    return page_template("model_card.md.jinja", measured=_measured, literal=_literal).render(
        card_data=_card_data(base, method, after, parameters, is_separate=is_separate).to_yaml(),
        title=_title(base, method),
        base=base.get("pretrained"),
        model=describe_model(parameters | {"base_model": parameters["base_model"] | base}),
        n_tasks=n_tasks,
        n_forgotten=int(task_ids.between(1, n_tasks).sum()),
        n_kept=int((~task_ids.between(1, n_tasks)).sum()),
        method=method,
        sentences=describe_method(method),
        lora=lora,
        is_separate=is_separate,
        numbers=[before.to_dict(), after.to_dict()],
        was_attacked=was_attacked,
        membership=[] if told is None else _told(told, method.label),
        unmeasured=[
            *(OTHER_ATTACKS if was_attacked else NO_ATTACKS),
            *NEVER_MEASURED,
            *([NO_MEMBERSHIP] if told is None else []),
            *([] if parameters["experiment"].get("downstream") else [NO_BENCHMARKS]),
        ],
        settings=_settings(method, parameters),
        libraries=[
            f"{name} {run_record['libraries'][name]}"
            for name in HEADLINE_LIBRARIES
            if name in run_record["libraries"]
        ],
        run_record=run_record,
    )


def _told(membership: Mapping[str, Any], label: str) -> list[dict[str, Any]]:
    """List how well each score tells what was forgotten, before and after."""
    cells = {row["label"]: row["cells"] for row in membership["rows"]}
    bounds = {"auc": "auc", "ci_low": "auc_low", "ci_high": "auc_high"}
    before, after = (
        [{new: of[old] for old, new in bounds.items()} for of in cells[one]]
        for one in (REFERENCE_LABELS[BEFORE], label)
    )
    return [
        {"label": score["label"], "before": old, "after": new}
        for score, old, new in zip(membership["scores"], before, after, strict=True)
    ]


def _base_name(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Name the pretrained base model: a hub name, or the last part of a folder's path."""
    name = parameters["base_model"].get("pretrained")
    if not name:
        return {}
    return {"pretrained": name if _is_of_the_hub(name) else Path(name).name}


def _is_of_the_hub(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not os.path.isdir(name)


def _title(base: Mapping[str, str], method: MethodParameters) -> str:
    return f"{base.get('pretrained', 'A small Llama')} after unlearning with {method.label}"


def _card_data(
    base: Mapping[str, str],
    method: MethodParameters,
    after: pd.Series,
    parameters: Mapping[str, Any],
    *,
    is_separate: bool,
) -> ModelCardData:
    from huggingface_hub import EvalResult, ModelCardData

    name = parameters["base_model"].get("pretrained")
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type="closer-look",
            dataset_name="The questions of the run",
            metric_type=column,
            metric_name=label,
            metric_value=round(float(after[column]), 4),
        )
        for column, label in SCORES.items()
        if not pd.isna(after[column])
    ]
    return ModelCardData(
        base_model=name if name and _is_of_the_hub(name) else None,
        library_name="peft" if is_separate else "transformers",
        pipeline_tag="text-generation",
        tags=["unlearning", "closer-look"],
        model_name=_title(base, method),
        eval_results=results,
    )


def _settings(method: MethodParameters, parameters: Mapping[str, Any]) -> str:
    import yaml

    groups = {"method": plain(method)} | {
        group: parameters[group] for group in SETTINGS if group in parameters
    }
    if seeds := parameters["experiment"].get("seeds"):
        groups["seed"] = seeds[0]  # in place of those of the groups
    return yaml.safe_dump(groups, sort_keys=False, allow_unicode=True).rstrip()


def _literal(text: str) -> str:
    """Write a name in Markdown so that it shows as what it is."""
    return re.sub(r"([\\`*\[\]<>&|~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _measured(row: Mapping[str, Any], name: str) -> str:
    value, low, high = (row[column] for column in (name, f"{name}_low", f"{name}_high"))
    if pd.isna(value):
        return ""
    return f"{value:.3g}" if pd.isna(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"
