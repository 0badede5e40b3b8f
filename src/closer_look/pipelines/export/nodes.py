"""Nodes of the export."""

from __future__ import annotations

from typing import Any

import pandas as pd

from closer_look.models.language_model import LanguageModel
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.models import ExportParameters

ExportedModel = Any  # of models.export


def export_model(
    model: LanguageModel,
    method: MethodParameters,
    summary_table: pd.DataFrame,
    questions: pd.DataFrame,
    run_record: dict[str, Any],
    export: ExportParameters,
    membership: pd.DataFrame | None = None,
    residual: pd.DataFrame | None = None,
) -> ExportedModel:
    """Prepare a method's last model to be used elsewhere, and write its model card."""
    from closer_look.models.export import ExportedModel, prepare
    from closer_look.reporting.model_card import model_card
    from closer_look.reporting.results import first_seed, with_residual

    table = first_seed(summary_table)
    if residual is not None:
        methods = run_record["parameters"]["methods"]
        labels = {name: settings["label"] for name, settings in methods.items()}
        table = with_residual(table, residual, labels)
    card = model_card(
        method=method,
        summary_table=table,
        questions=questions,
        run_record=run_record,
        adapters=export.adapters,
        membership=None if membership is None else first_seed(membership),
    )
    return ExportedModel(prepare(model, export), card)
