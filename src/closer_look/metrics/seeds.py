"""Averages over the seeds of a run.

An interval over rows says how far a number hangs on the choice of questions, one over seeds how far
it hangs on the training run. Neither holds the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

CONFIDENCE = 0.95

Number = TypeVar("Number", float, pd.Series)


def average_seeds(
    table: pd.DataFrame, keys: Sequence[str], estimates: Mapping[str, str]
) -> pd.DataFrame:
    """Average a table over its seeds.

    Bounds of intervals over rows are averaged, too: all seeds are measured on the same rows, so
    more seeds do not narrow them. The interval over seeds is Student's t-interval of the mean.

    Args:
        table: a row per seed and combination of keys, with ``seed``; rows that no seed has made are
            alone with their keys.
        keys: columns that name what was measured, ``method`` among them.
        estimates: columns to give an interval over seeds -> prefix of its columns.

    Returns:
        A row per combination of keys, in the order of the first seed. Numbers are means, missing if
        they, or their rows, are missing for a seed of the method; different texts are joined by
        "; ". Added are ``<prefix>seed_low`` and ``<prefix>seed_high``, missing where there are not
        two seeds, and ``n_seeds`` of the method.
    """
    others = [column for column in table if column not in (*keys, "seed")]
    numbers = [column for column in others if pd.api.types.is_numeric_dtype(table[column])]
    groups = table.groupby([*keys], sort=False, dropna=False)
    of_method = table.groupby("method")["seed"].transform("nunique").clip(lower=1)
    n_seeds = of_method.groupby([table[key] for key in keys], sort=False, dropna=False).first()
    averages = groups[numbers].mean().where(groups[numbers].count().eq(n_seeds, axis=0))
    texts = groups[[column for column in others if column not in numbers]].agg(_joined)
    found = averages.join(texts)[others]
    deviations = groups[[*estimates]].std()
    for column, prefix in estimates.items():
        half = half_width(deviations[column].where(found[column].notna()), n_seeds)
        found[f"{prefix}seed_low"] = found[column] - half
        found[f"{prefix}seed_high"] = found[column] + half
    return found.assign(n_seeds=n_seeds).reset_index()


def half_width(deviation: Number, n: Number) -> Number:
    """Compute half of the t-interval of a mean: of n numbers with this standard deviation.

    It is missing where the deviation is, as it is for a single number.
    """
    from scipy.special import stdtrit  # takes a moment to import

    return stdtrit(np.maximum(n - 1, 1), (1 + CONFIDENCE) / 2) * deviation / n**0.5


def _joined(texts: pd.Series) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
