"""The leaderboard: methods ranked by a score, beside what they cost and what else was measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import pandas as pd

from closer_look.data.cells import BEFORE, Cell
from closer_look.parameters.space import Value, shown
from closer_look.reporting.results import REFERENCE_LABELS, over_seeds, told_apart

MAKING = ("reference", "unlearning")
"""Stages that make a method's models; others measure them, the same for all methods."""
MEMBERSHIP_SCORE = "min_k"
RANKED_BY = {
    "harmonic_mean": "the harmonic mean of the two, the score",
    "forget_efficacy": "FE, and those that do not keep MU come last",
}
"""By what methods are ranked: value of ``benchmark.rank_by`` -> words."""


TUNED_FOR = {
    "harmonic_mean": "the highest harmonic mean of MU and FE",
    "forget_efficacy": "the highest FE that keeps {kept} of MU",
}
"""What tuning looks for: value of ``tuning.objective`` -> words."""


class Column(NamedTuple):
    """A column of the leaderboard as a reader sees it."""

    name: str
    head: str
    meaning: str
    write: Callable[[Any], str]


def leaderboard(
    comparison: pd.DataFrame,
    summary_table: pd.DataFrame,
    metrics: pd.DataFrame,
    node_costs: pd.DataFrame,
    labels: Mapping[str, str],
    settings: Mapping[str, str],
    membership: pd.DataFrame | None = None,
    residual: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Put together everything that was measured of each method.

    Args:
        comparison: see ``metrics.compare``.
        summary_table: table from ``results.summary_table``.
        metrics: the stacked metrics of a run, of one seed or of several.
        node_costs: costs of the scenario's nodes.
        labels: method -> label.
        settings: method -> what it was trained with.
        membership: the stacked tables of membership inference; None without it.
        residual: see ``metrics.residual_knowledge``; None without attacks.

    Returns:
        The lines of ``comparison``, with labels in place of methods, and what was measured besides:
        ``forget_efficacy_over_time`` (the mean, over the tasks, of the FE of all tasks so far),
        ``forget_quality`` (of the last task), ``extraction_strength`` and ``membership_auc`` (of
        Min-K%; both of all that was to be forgotten), ``residual_knowledge``, ``seconds`` (to make
        a method's models of one seed), ``peak_memory`` (bytes, meanwhile) and ``settings``.
    """
    after = summary_table[summary_table["after_task"] > 0].groupby("method", sort=False)
    costs = _costs(node_costs, labels, summary_table["after_task"].max())
    found = {
        "forget_efficacy_over_time": after["forget_efficacy_of_tasks_so_far"].mean(),
        "forget_quality": after["forget_quality"].last(skipna=False),
        "extraction_strength": _final(over_seeds(metrics), "extraction_strength").rename(labels),
        "membership_auc": _told(membership).rename(labels),
        "residual_knowledge": _values(residual).rename(labels),
        **costs,
        "settings": pd.Series(settings, dtype=object).rename(labels),
    }
    table = comparison.assign(method=comparison["method"].map(labels))
    return table.assign(**{name: table["method"].map(of) for name, of in found.items()})


def best_settings(trials: pd.DataFrame, search_spaces: pd.DataFrame) -> dict[str, str]:
    """Write the settings that tuning has chosen for each method.

    Args:
        trials: of all methods, with ``is_best`` and a column for each parameter.
        search_spaces: the parameters that were tuned: method, parameter.
    """
    best = trials[trials["is_best"]].set_index("method")
    return {
        method: ", ".join(
            f"{parameter} {_setting(best.loc[method, parameter])}"
            for parameter in of_method["parameter"]
        )
        for method, of_method in search_spaces.groupby("method")
    }


def _setting(value: Value) -> str:
    # Beside methods without the parameter, a table holds whole numbers as floats.
    return shown(int(value) if isinstance(value, float) and value.is_integer() else value)


def _final(metrics: pd.DataFrame, metric: str) -> pd.Series:
    """Average a metric of the forget sets over tasks, after the last one."""
    rows = metrics[(metrics["split"] == "forget") & (metrics["metric"] == metric)]
    last = rows.groupby("method")["after_task"].transform("max")
    return rows[rows["after_task"] == last].groupby("method")["value"].mean(skipna=False)


def _told(membership: pd.DataFrame | None) -> pd.Series:
    if membership is None:
        return pd.Series(dtype=float)
    told = told_apart(over_seeds(membership))
    return told[told["score"] == MEMBERSHIP_SCORE].groupby("method")["auc"].mean()


def _values(residual: pd.DataFrame | None) -> pd.Series:
    if residual is None:
        return pd.Series(dtype=float)
    return residual.groupby("method")["value"].mean()


def _costs(
    node_costs: pd.DataFrame, labels: Mapping[str, str], n_tasks: int
) -> dict[str, pd.Series]:
    """Sum up time, and find the most memory, of what made each method's models."""
    made = node_costs[node_costs["stage"].isin(MAKING)]
    cells = [Cell.around(node) for node in made["node"]]
    made = made.assign(
        method=[labels.get(cell.method) if cell else None for cell in cells],
        seed=[cell.seed if cell else None for cell in cells],
        memory=made["peak_gpu_memory"].fillna(made["peak_memory"]),
    )[[cell is not None and cell.after_task <= n_tasks for cell in cells]]
    of_seeds = made.groupby(["method", "seed"], dropna=False)["seconds"].sum()
    return {
        "seconds": of_seeds.groupby("method").mean(),
        "peak_memory": made.groupby("method")["memory"].max(),
    }


def tabulate_leaderboard(
    table: pd.DataFrame, summary_table: pd.DataFrame, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Tabulate the leaderboard for the report: sentences, columns, and rows of cells."""
    columns = shown_columns(table)
    return {
        "sentences": describe_leaderboard(table, summary_table, parameters),
        "columns": columns,
        "rows": written_rows(table, columns),
    }


def shown_columns(table: pd.DataFrame) -> list[Column]:
    """List the columns that a reader sees: those in which any method has a value."""
    return [
        column for column in COLUMNS if column.name in table and table[column.name].notna().any()
    ]


def describe_leaderboard(
    table: pd.DataFrame, summary_table: pd.DataFrame, parameters: Mapping[str, Any]
) -> list[str]:
    """Say in sentences what the numbers are, and how far they go.

    Args:
        table: the leaderboard.
        summary_table: table from ``results.summary_table``.
        parameters: of the run record.
    """
    rank_by, tuning = parameters["benchmark"]["rank_by"], parameters["tuning"]
    best = TUNED_FOR[tuning["objective"]].format(kept=f"{100 * tuning['min_utility']:g} %")
    n_seeds = int(table["n_seeds"].max())
    (before,) = summary_table[summary_table["method"] == REFERENCE_LABELS[BEFORE]].itertuples()
    others = [NO_MEANS[one.name] for one in shown_columns(table) if one.name in NO_MEANS]
    but = f", but {' and '.join(others)}" if others else ""
    over_seeds = (
        f"Every number is the mean over {n_seeds} seeds{but}. Intervals are of 95 %, over "
        "questions and seeds: over what else might have been asked, and how else the training "
        "might have gone."
    )
    over_questions = (
        "Intervals are of 95 %, over questions. There is one seed: how far another training would "
        "differ is not known."
    )
    return [
        "Model utility (MU) is what a model still does well, forget efficacy (FE) how much is gone "
        f"of what it should forget. Methods are ranked by {RANKED_BY[rank_by]}, after the last "
        f"task. Before unlearning, MU is {before.model_utility:.3f} and FE "
        f"{before.forget_efficacy:.3f}.",
        f"First, {tuning['trials']} trials looked for the best settings of each method that "
        f"trains: for {best} on questions that no number here is about.",
        over_questions if n_seeds == 1 else over_seeds,
        "A rank is one more than the number of methods whose whole interval lies above a method's "
        "own. Two methods whose intervals overlap may have different ranks: a third one may lie "
        "above one of them alone. p is the chance of a difference at least as large between a "
        "method and the next one, if there were none: a two-sided test on the same "
        f"questions{' and seeds' if n_seeds > 1 else ''}, corrected for the number of tests "
        "(Holm).",
    ]


def plain_table(table: pd.DataFrame) -> str:
    """Write the leaderboard for the terminal, without intervals and settings."""
    columns = [column for column in shown_columns(table) if column.name != "settings"]
    cells = [[cell for cell, _ in row] for row in written_rows(table, columns)]
    return pd.DataFrame(cells, columns=[column.head for column in columns]).to_string(index=False)


def markdown(
    table: pd.DataFrame, summary_table: pd.DataFrame, parameters: Mapping[str, Any]
) -> str:
    """Write the leaderboard in Markdown: the table, and what its numbers are."""
    columns = shown_columns(table)
    heads = [f"- {column.head}: {column.meaning}." for column in columns]
    sentences = describe_leaderboard(table, summary_table, parameters)
    return "\n\n".join([markdown_table(table), *sentences, "\n".join(heads)]) + "\n"


def markdown_table(table: pd.DataFrame) -> str:
    """Write the leaderboard as a table in Markdown."""
    columns = shown_columns(table)
    lines = [[column.head for column in columns], ["---"] * len(columns)]
    lines += [
        [_escaped(f"{cell} ({interval})" if interval else cell) for cell, interval in row]
        for row in written_rows(table, columns)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written_rows(table: pd.DataFrame, columns: Collection[Column]) -> list[list[tuple[str, str]]]:
    """Write every cell of the columns, and its interval; "" where there is none."""
    return [[_written(row, column) for column in columns] for row in table.to_dict("records")]


def _written(row: Mapping[str, Any], column: Column) -> tuple[str, str]:
    value = row[column.name]
    if pd.isna(value):
        return "", ""
    low, high = (row.get(f"{column.name}_{end}") for end in ("low", "high"))
    return column.write(value), "" if low is None else f"{low:.2f} to {high:.2f}"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")


def _number(value: float) -> str:
    return f"{value:.3f}"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


NO_MEANS = {
    "residual_knowledge": "Residual is of the first",
    "peak_memory": "Memory is the most of any",
}

COLUMNS = (
    Column("method", "Method", "as it is named everywhere", str),
    Column(
        "rank",
        "Rank",
        "one more than the number of methods whose whole interval lies above",
        "{:.0f}".format,
    ),
    Column("score", "Score", "by which methods are ranked", _number),
    Column("p_value", "p", "of the difference to the next method", _p_value),
    Column("model_utility", "MU", "what the model still does well", _number),
    Column("forget_efficacy", "FE", "how much of all tasks is gone at the end", _number),
    Column(
        "forget_efficacy_over_time",
        "FE over time",
        "the mean over the tasks of how much of all tasks so far was gone",
        _number,
    ),
    Column(
        "forget_quality",
        "FQ",
        "the p-value of the test against a retain-only model, of the last task",
        "{:.2g}".format,
    ),
    Column(
        "extraction_strength",
        "Extraction",
        "how much of a forgotten answer the model completes word for word; less is better",
        _number,
    ),
    Column(
        "membership_auc",
        "Membership",
        "how often Min-K% tells a forgotten row from one never seen; 0.5 is a guess",
        _number,
    ),
    Column(
        "residual_knowledge",
        "Residual",
        "the most that an attack gets back of what was known; less is better",
        _number,
    ),
    Column("seconds", "Time", "seconds to unlearn all tasks with one seed", "{:.0f} s".format),
    Column(
        "peak_memory",
        "Memory",
        "the most that was held meanwhile",
        lambda n_bytes: f"{n_bytes / 1e9:.1f} GB",
    ),
    Column("settings", "Trained with", "the settings that tuning has chosen", str),
)
"""The columns of the leaderboard, in their order."""
