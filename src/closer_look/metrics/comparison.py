"""The comparison of methods: scores, ranks, and whether neighbours truly differ.

A score depends on the rows that are asked and on the seeds of the training. Rows are bootstrapped,
the same for all methods and seeds, so that methods are compared in pairs. There are too few seeds
for that: drawing three of three with replacement makes intervals much too narrow. Their mean is
drawn from its t-distribution instead (the generalised inference of Weerahandi 1993,
doi:10.1080/01621459.1993.10476355). With one seed, nothing is known of other seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from closer_look.errors import InputError
from closer_look.metrics.aggregates import (
    FORGET_EFFICACY_TERMS,
    MODEL_UTILITY_TERMS,
    forget_efficacy,
    model_utility,
)
from closer_look.metrics.intervals import percentile_interval
from closer_look.metrics.records import METRICS
from closer_look.metrics.seeds import half_width

QUANTITIES = ("score", "model_utility", "forget_efficacy")


class Resampled(NamedTuple):
    """A number of a method, or a difference of two."""

    of_seeds: NDArray[np.float64]
    """(n_seeds,), on the rows themselves."""
    of_rows: NDArray[np.float64]
    """(n_resamples,), on resamples of the rows, each the mean over seeds."""

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(self.of_seeds.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over seeds; 0 of one seed."""
        n_seeds = len(self.of_seeds)
        return float(self.of_seeds.std(ddof=1) / np.sqrt(n_seeds)) if n_seeds > 1 else 0.0

    def minus(self, other: Self) -> Resampled:
        """Compare in pairs: the same seeds, the same resamples."""
        return Resampled(self.of_seeds - other.of_seeds, self.of_rows - other.of_rows)

    def over_both(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Draw the number over rows and seeds.

        Args:
            t: (n_resamples,), drawn from the t-distribution with n_seeds - 1 degrees of freedom.
        """
        return self.of_rows + self.standard_error * t

    def p_value(self, t: NDArray[np.float64]) -> float:
        """Compute the two-sided p-value of a difference that would be 0 over all rows and seeds."""
        drawn = self.over_both(t)
        tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
        return min(1.0, 2 * float(tail + 1) / (len(drawn) + 1))


def compare(
    row_metrics: pd.DataFrame,
    methods: Sequence[str],
    before: str,
    rank_by: str = "harmonic_mean",
    min_utility: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 1001,
) -> pd.DataFrame:
    """Rank methods by their models after the last task.

    Model utility (MU) and forget efficacy (FE, the mean over tasks) are computed for each seed, and
    averaged. A method's rank is one more than the number of methods whose whole interval lies above
    its own (as in the Chatbot Arena, arXiv 2403.04132). Each method is also tested against the next
    one in the table: two-sided, in pairs, corrected after Holm for the number of tests.

    Args:
        row_metrics: method, split, task_id, row_id, the metrics and, if there are several, seed;
            of ``before`` and of each method after the last task.
        methods: the methods to rank; all have the same rows and seeds.
        before: the method that stands for the model before unlearning.
        rank_by: "harmonic_mean" of MU and FE, or "forget_efficacy"; then methods that do not keep
            MU come after all that do.
        min_utility: share of the MU before unlearning that counts as kept.
        n_resamples: number of resamples. Holm's smallest p-value of n methods is about 2 n /
            ``n_resamples``.
        seed: seed of the resampling; the same seed gives the same table.

    Returns:
        A line per method, the best first: method, rank; ``score``, ``model_utility`` and
        ``forget_efficacy``, each with ``_low`` and ``_high`` over questions and seeds;
        ``score_questions_low``, ``..._high`` over questions alone and ``score_seeds_low``,
        ``..._high`` over seeds alone (NaN with one seed); ``keeps_utility``, n_seeds;
        ``difference``, by which the score is above that of the next line, with ``_low``,
        ``_high``, and its corrected ``p_value`` (NaN where the next line is none, or does not
        keep MU while this one does). Intervals are of 95 %; a score is the mean over seeds.

    Raises:
        InputError: MU or FE has no row to be computed from.
    """
    rng = np.random.default_rng(seed)
    groups = _draw_rows(row_metrics, n_resamples, rng)
    numbers = {method: _measure(method, groups, rank_by) for method in (before, *methods)}
    least = min_utility * numbers.pop(before)["model_utility"].value
    keeps = {name: of["model_utility"].value >= least for name, of in numbers.items()}
    n_seeds = len(numbers[methods[0]]["score"].of_seeds)
    t = rng.standard_t(max(n_seeds - 1, 1), size=n_resamples)
    lines = [
        {"method": name, **_line(of, t), "keeps_utility": keeps[name], "n_seeds": n_seeds}
        for name, of in numbers.items()
    ]
    table = pd.DataFrame(lines)
    table["last"] = ~table["keeps_utility"] & (rank_by == "forget_efficacy")
    table = table.sort_values(
        ["last", "score"], ascending=[True, False], kind="stable", ignore_index=True
    )
    table.insert(1, "rank", ranks(table["score_low"], table["score_high"], table["last"]))
    return _with_tests(table, numbers, t).drop(columns="last")


def ranks(low: ArrayLike, high: ArrayLike, last: ArrayLike) -> NDArray[np.int64]:
    """Rank by intervals: one more than the number of those that lie wholly above.

    Args:
        low: (N,), lower bounds.
        high: (N,), upper bounds.
        last: (N,), which come after all others, whatever their intervals.

    Returns:
        (N,), from 1. Two whose intervals overlap may differ, as a third may lie above one alone.
    """
    low, high, last = np.asarray(low), np.asarray(high), np.asarray(last, dtype=int)
    is_better = np.where(last[:, None] == last, low > high[:, None], last < last[:, None])
    return 1 + is_better.sum(axis=1)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Correct p-values for their number (Holm, Scandinavian Journal of Statistics 6, 1979).

    Args:
        p_values: (N,), of tests that may depend on each other.

    Returns:
        (N,): the chance that any test of those without an effect comes out below a level is at
        most that level.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(steps).clip(max=1)
    return corrected


class _Group(NamedTuple):
    """The rows of a split, or the forget rows of a task."""

    is_forget: bool
    n_drawn: NDArray[np.float64]  # (1 + n_resamples, n_rows): each row once, then in each resample
    values: dict[str, NDArray[np.float64]]  # of a method: (n_seeds, n_rows, n_terms)


def _draw_rows(
    row_metrics: pd.DataFrame, n_resamples: int, rng: np.random.Generator
) -> list[_Group]:
    """Draw resamples of rows, with what each row adds to the mean of each term."""
    keys = ["method", *(["seed"] if "seed" in row_metrics else []), "row_id"]
    row_metrics = row_metrics.sort_values(keys, ignore_index=True)
    task_id = row_metrics["task_id"].where(row_metrics["split"] == "forget", 0)
    groups = []
    for (split, _), rows in row_metrics.groupby(["split", task_id]):
        is_forget = split == "forget"
        terms = FORGET_EFFICACY_TERMS if is_forget else MODEL_UTILITY_TERMS
        values = np.stack(
            [METRICS[term].over_rows(rows[[term]].to_numpy(float), split) for term in terms],
            axis=-1,
        )
        n_rows = rows["row_id"].nunique()
        n_drawn = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=n_resamples)
        of_methods = {
            method: values[lines].reshape(-1, n_rows, len(terms))
            for method, lines in rows.groupby("method").indices.items()
        }
        each_once = np.ones((1, n_rows))
        groups.append(_Group(is_forget, np.concatenate([each_once, n_drawn]), of_methods))
    return groups


def _measure(method: str, groups: Sequence[_Group], rank_by: str) -> dict[str, Resampled]:
    """Compute MU, FE and score of a method."""
    kept, forgotten = [], []
    for group in groups:
        means = _means(group.values[method], group.n_drawn)
        if not group.is_forget:
            kept.append(means)
        elif means.size:
            forgotten.append(forget_efficacy(means))
    kept = np.concatenate(kept, axis=-1) if kept else np.empty(0)
    if not kept.size or not forgotten:
        missing = "to forget" if kept.size else "to retain"
        raise InputError(
            f"methods cannot be ranked without rows {missing}; forget_set.evaluated_splits says "
            f"which are evaluated"
        )
    utility, efficacy = model_utility(kept), np.mean(forgotten, axis=0)
    score = efficacy
    if rank_by == "harmonic_mean":
        score = model_utility(np.stack([utility, efficacy], axis=-1))
    return {
        name: Resampled(values[0], values[1:].mean(axis=1))
        for name, values in zip(QUANTITIES, (score, utility, efficacy), strict=True)
    }


def _means(values: NDArray[np.float64], n_drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over rows and over resamples of them: (1 + n_resamples, n_seeds, n_terms).

    A mean is over the rows that have a value; a term that no row has is left out.
    """
    is_there = ~np.isnan(values)
    values, is_there = (one[..., is_there.any(axis=(0, 1))] for one in (values, is_there))
    sums, counts = (
        np.moveaxis(n_drawn @ np.nan_to_num(one.astype(float)), 0, 1) for one in (values, is_there)
    )
    with np.errstate(invalid="ignore"):
        means = sums / counts
    means = np.where(counts > 0, means, means[:1])  # a resample may have no row with a value
    return means.clip(0, 1)  # a mean of ones can exceed 1 by a rounding error


def _line(of: dict[str, Resampled], t: NDArray[np.float64]) -> dict[str, float]:
    line = {}
    for name in QUANTITIES:
        number = of[name]
        low, high = _within(percentile_interval(number.over_both(t)))
        line |= {name: number.value, f"{name}_low": low, f"{name}_high": high}
    score = of["score"]
    of_rows, of_seeds = percentile_interval(score.of_rows), _seed_interval(score)
    for name, (low, high) in (("questions", of_rows), ("seeds", of_seeds)):
        line |= {f"score_{name}_low": low, f"score_{name}_high": high}
    return line


def _seed_interval(number: Resampled) -> tuple[float, float]:
    """Compute the 95 % t-interval of the mean over seeds."""
    n_seeds = len(number.of_seeds)
    if n_seeds == 1:
        return np.nan, np.nan
    most = half_width(number.of_seeds.std(ddof=1), n_seeds)
    return _within((number.value - most, number.value + most))


def _within(interval: tuple[float, float]) -> tuple[float, float]:
    """Cut an interval where no value can be: MU, FE and score lie between 0 and 1."""
    low, high = np.clip(interval, 0, 1)
    return float(low), float(high)


def _with_tests(
    table: pd.DataFrame, numbers: dict[str, dict[str, Resampled]], t: NDArray[np.float64]
) -> pd.DataFrame:
    """Test each method against the next."""
    columns = ["difference", "difference_low", "difference_high", "p_value"]
    table = table.assign(**dict.fromkeys(columns, np.nan))
    for place in range(len(table) - 1):
        method, following = table["method"].iloc[place : place + 2]
        if table["last"].iloc[place] != table["last"].iloc[place + 1]:
            continue
        difference = numbers[method]["score"].minus(numbers[following]["score"])
        interval = percentile_interval(difference.over_both(t))
        table.loc[place, columns] = [difference.value, *interval, difference.p_value(t)]
    tested = table["p_value"].notna()
    table.loc[tested, "p_value"] = holm(table.loc[tested, "p_value"])
    return table
