"""What attacks get back of what a model was made to forget.

An attack has one or more settings ("after 10 steps"), and its result is that of the setting that
gets most back. Where the largest of several numbers is chosen, so are its bounds: the upper one is
the largest of all upper bounds, and the lower one the largest of lower bounds that all hold at once
(Bonferroni). So an interval does not narrow because much was tried.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from closer_look.metrics.intervals import proportion_interval

PLAIN = "plain"
"""Name of no attack: the question as it was trained, asked once."""
NOT_KNOWN = "the model before unlearning gives nothing back either"
ONE_SIDE = 0.025  # of an interval of 95 %

Values = NDArray[np.float64]


class Share(NamedTuple):
    """How much is got back of what was known, with the bounds of a 95 % interval."""

    value: float
    ci_low: float
    ci_high: float


class _Setting(NamedTuple):
    recovered: Values  # (N,)
    known: Values  # (N,), by the model before unlearning, of the same rows


def attack_results(
    recovered: pd.DataFrame,
    before: str,
    internal: Collection[str] = (),
    n_resamples: int = 1000,
    seed: int = 1001,
) -> pd.DataFrame:
    """Summarise attacks over rows.

    Args:
        recovered: ``method``, ``attack``, ``setting``, ``row_id``, ``recovered`` (0 to 1, of the
            row's worst answer), ``share`` (of its answers), ``rouge``, ``cosine_similarity`` and
            ``entailment``. Plain asking is the attack ``PLAIN``.
        before: the method that stands for the model before unlearning.
        internal: attacks that are compared with the same attack on that model; the others with what
            it answers when it is asked plainly.
        n_resamples: number of bootstrap resamples of the rows.
        seed: seed of the resampling.

    Returns:
        A line per method, attack and setting: ``recovered`` (the mean over rows), ``once`` (the
        mean of ``share``: what a single answer gives back), ``value`` (``recovered`` as a share of
        what was known) with ``ci_low`` and ``ci_high``, means of ``rouge``, ``cosine_similarity``
        and ``entailment``, ``n_rows``, ``is_largest`` (of the attack's settings) and ``reason``
        (why there is no value; else "").
    """
    lines = []
    for (method, attack, setting), rows in _settings(recovered):
        found = _setting(recovered, rows, before, attack in internal)
        share = largest_share([found], n_resamples, seed)
        means = rows[["rouge", "cosine_similarity", "entailment"]].astype(float).mean()
        lines.append(
            {"method": method, "attack": attack, "setting": setting}
            | {"recovered": found.recovered.mean(), "once": rows["share"].mean()}
            | {**share._asdict(), **means, "n_rows": len(rows)}
            | {"reason": NOT_KNOWN if np.isnan(share.value) else ""}
        )
    table = pd.DataFrame(lines)
    share = table["value"].fillna(table["recovered"])  # settings may have rows of their own
    best = share.groupby([table["method"], table["attack"]], sort=False).idxmax()
    return table.assign(is_largest=table.index.isin(best))


def residual_knowledge(
    recovered: pd.DataFrame,
    before: str,
    internal: Collection[str] = (),
    n_resamples: int = 1000,
    seed: int = 1001,
) -> pd.DataFrame:
    """Compute the most that any attack gets back, as a share of what was known.

    Plain asking is among the attacks: nothing is left of what no attack gets back, and that a model
    still answers is never forgotten.

    Args:
        recovered: see ``attack_results``.
        before: see there.
        internal: see there.
        n_resamples: see there.
        seed: see there.

    Returns:
        A line per method: ``value`` (0 to 1) with ``ci_low`` and ``ci_high``, the ``attack`` and
        ``setting`` that got most back, and ``reason`` (why there is no value; else "").
    """
    lines = []
    for method, of_method in recovered.groupby("method", sort=False):
        settings = {
            (attack, setting): _setting(recovered, rows, before, attack in internal)
            for (_, attack, setting), rows in _settings(of_method)
        }
        shares = {
            key: largest_share([found], n_resamples, seed).value for key, found in settings.items()
        }
        known = {key: share for key, share in shares.items() if not np.isnan(share)}
        if not known:
            nothing = {"attack": "", "setting": "", "reason": NOT_KNOWN}
            lines.append({"method": method, **Share(np.nan, np.nan, np.nan)._asdict(), **nothing})
            continue
        attack, setting = max(known, key=known.get)
        share = largest_share([settings[key] for key in known], n_resamples, seed)
        found = {"attack": attack, "setting": setting, "reason": ""}
        lines.append({"method": method, **share._asdict(), **found})
    return pd.DataFrame(lines)


def largest_share(
    settings: Collection[tuple[Values, Values]], n_resamples: int = 1000, seed: int = 1001
) -> Share:
    """Compute the largest of several shares of what was known, with a 95 % interval.

    A bound of one share is the farther of two: of a bootstrap, whose rows are resampled in pairs,
    and, where rows are either got back or not, the exact one of that proportion. A bootstrap alone
    has no width where no row, or every row, is got back.

    Args:
        settings: for each share ``recovered`` and ``known``, (N,) each, between 0 and 1: what was
            got back of each row, and what the model before unlearning gave of the same row.
        n_resamples: number of bootstrap resamples of the rows.
        seed: seed of the resampling.

    Returns:
        The share and its bounds, between 0 and 1; NaN where nothing was known.
    """
    sides = ONE_SIDE / len(settings), 1 - ONE_SIDE
    generator = np.random.default_rng(seed)
    pairs = [tuple(np.asarray(one, float) for one in setting) for setting in settings]
    shares = [_share(*pair, sides, n_resamples, generator) for pair in pairs]
    return Share(*np.max(shares, axis=0).tolist())


def _share(
    recovered: Values,
    known: Values,
    sides: tuple[float, float],
    n_resamples: int,
    generator: np.random.Generator,
) -> tuple[float, float, float]:
    if not known.any():
        return np.nan, np.nan, np.nan
    n_rows = len(recovered)
    drawn = generator.integers(n_rows, size=(n_resamples, n_rows))
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = recovered[drawn].mean(1) / known[drawn].mean(1)
    low, high = np.quantile(resampled[~np.isnan(resampled)].clip(0, 1), sides)
    if np.isin(recovered, (0, 1)).all():
        exact = proportion_interval(int(recovered.sum()), n_rows, sides)
        low, high = min(low, exact[0] / known.mean()), max(high, exact[1] / known.mean())
    value = recovered.mean() / known.mean()
    return tuple(float(np.clip(one, 0, 1)) for one in (value, low, high))


def _settings(recovered: pd.DataFrame):
    return recovered.groupby(["method", "attack", "setting"], sort=False)


def _setting(
    recovered: pd.DataFrame, rows: pd.DataFrame, before: str, is_internal: bool
) -> _Setting:
    """Pair what was got back of rows with what the model before unlearning gives of them."""
    attack = rows["attack"].iloc[0] if is_internal else PLAIN
    of_target = recovered[(recovered["method"] == before) & (recovered["attack"] == attack)]
    best = of_target.groupby("setting", sort=False)["recovered"].mean().idxmax()
    of_target = of_target[of_target["setting"] == best].set_index("row_id")["recovered"]
    known = of_target.reindex(rows["row_id"])
    return _Setting(rows["recovered"].to_numpy(float), known.to_numpy(float))
