"""The report's table of membership inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from closer_look.reporting.results import REFERENCE_LABELS, told_apart
from closer_look.reporting.sentences import method_labels
from closer_look.reporting.wording import MEMBERSHIP


def tabulate_membership(
    membership: pd.DataFrame | None, parameters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Tabulate membership inference: a column for each score; rows are models after the last task.

    Returns:
        None if nothing was told apart.
    """
    told = None if membership is None else told_apart(membership)
    if told is None or told.empty:
        return None
    labels = REFERENCE_LABELS | method_labels(parameters)
    scores = [score for score in MEMBERSHIP if score in set(told["score"])]
    estimates = told.set_index(["method", "score"])
    rows = [
        {
            "label": labels[method],
            "is_reference": method in REFERENCE_LABELS,
            "cells": estimates.reindex([(method, score) for score in scores]).to_dict("records"),
        }
        for method in told["method"].unique()
    ]
    heads = [dict(zip(("label", "meaning"), MEMBERSHIP[score], strict=True)) for score in scores]
    counts = {name: int(told[name].max()) for name in ("n_forget", "n_holdout")}
    has_leak = bool(told["privleak"].notna().any())
    return {"scores": heads, "rows": rows, "has_leak": has_leak} | counts
