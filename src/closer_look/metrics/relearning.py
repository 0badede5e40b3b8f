"""How much faster a model relearns what it was made to forget than one that never knew it."""

from __future__ import annotations

import numpy as np
import pandas as pd

SETTING = r"(\d+) steps on (.+)"
"""Numbers of steps, and what the training was on, in a setting of the attack."""


def relearning_areas(results: pd.DataFrame, retain_only: str) -> pd.DataFrame:
    """Compute the area between each model's relearning curve and the retain-only model's.

    A curve is what the model gives back by the number of training steps, joined by straight lines.
    The area is divided by the range of steps: it is the mean distance of the curves.

    Args:
        results: ``method``, ``setting`` and ``recovered`` (0 to 1) of the attack relearning, a line
            per setting; see ``attack_results``.
        retain_only: the method that stands for the retain-only model.

    Returns:
        A line per other method and material: ``method``, ``material`` and ``area``, between -1 and
        1; 0 for a model that relearns no faster than one that never knew.
    """
    parts = results["setting"].str.extract(SETTING)
    curves = results.assign(steps=parts[0].astype(int), material=parts[1])
    curves = curves.pivot(index=["material", "steps"], columns="method", values="recovered")
    gaps = curves.drop(columns=retain_only).sub(curves[retain_only], axis=0)
    lines = [
        {"method": method, "material": material, "area": _mean_height(gap.droplevel("material"))}
        for method in gaps
        for material, gap in gaps[method].groupby("material", sort=False)
    ]
    return pd.DataFrame(lines)


def _mean_height(curve: pd.Series) -> float:
    steps = curve.index.to_numpy(float)
    if len(steps) == 1:
        return float(curve.iloc[0])
    return float(np.trapezoid(curve, steps) / (steps[-1] - steps[0]))
