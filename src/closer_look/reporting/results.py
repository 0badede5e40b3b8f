"""Tables of a whole run, made from the tables of its cells.

The cells' tables are passed by namespace (see ``data.cells``), such as
``continual.me_gd.task_03``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from closer_look.data.cells import BEFORE, RETAIN_ONLY, Cell
from closer_look.metrics import average_seeds

REFERENCE_LABELS = {BEFORE: "before", RETAIN_ONLY: "retain-only"}
"""Models to compare with: the target model and, in some runs, a retain-only model."""

STAGES = {
    "forget_set": "Questions",
    "finetuning": "Fine-tuning",
    "tuning": "Tuning",
    "reference": "Reference",
    "unlearning": "Unlearning",
    "generation": "Answers",
    "metrics": "Metrics",
    "downstream": "Benchmarks",
    "stress": "Attacks",
    "benchmark": "Leaderboard",
    "reporting": "Tables, figures",
    "inspection": "Inspection",
    "plan": "Plan",
    "export": "Export",
    "erasure": "Requests",
    "verify": "Verification",
}
"""The stages of a run in order: tag of their nodes -> name in the report."""

KEYS = ("method", "after_task", "split", "task_id", "score", "metric")
"""Columns that say what was measured, as far as a stacked table has them."""

NOT_MEASURED = {"value": np.nan, "ci_low": np.nan, "ci_high": np.nan}

SUMMARY_COLUMNS = (
    "model_utility",
    "forget_efficacy",
    "forget_efficacy_of_tasks_so_far",
    "forget_quality",
    "tofu_model_utility",
)


def stack_cells(cells: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Stack the tables of cells, or of methods whose cells have been stacked.

    Args:
        cells: namespace of a cell or of a method -> table.

    Returns:
        All rows, with ``method`` ("before" for the target model) and ``after_task`` (tasks
        unlearned so far; 0 for the target model and a retain-only model) as the first columns; in
        a run with seeds ``seed``, too, which is missing for models that no seed has made.
    """
    return pd.concat(
        [
            table if "after_task" in table else _add_cell_columns(Cell.parse(cell), table)
            for cell, table in cells.items()
        ],
        ignore_index=True,
    )


def _add_cell_columns(cell: Cell, table: pd.DataFrame) -> pd.DataFrame:
    of_cell = {"method": cell.method, "after_task": cell.after_task}
    if cell.seed is not None:
        of_cell["seed"] = pd.Series(cell.seed, table.index, "Int64")  # which knows missing ones
    return table.assign(**of_cell)[[*of_cell, *table.columns]]


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Average a stacked table over seeds: of summaries, metrics or membership inference.

    Returns:
        The columns of a run without seeds, and ``seed_low``, ``seed_high`` and ``n_seeds``; the
        table as it is if the run has no seeds.
    """
    if "seed" not in table:
        return table
    estimate = "auc" if "auc" in table else "value"
    return average_seeds(table, [name for name in KEYS if name in table], {estimate: ""})


def first_seed(table: pd.DataFrame) -> pd.DataFrame:
    """Keep what the first seed has made, and what no seed has; without seeds that is all."""
    if "seed" not in table:
        return table
    seeds = table["seed"]
    return table[seeds.isna() | (seeds == seeds.dropna().iloc[0])]


def are_means(table: pd.DataFrame) -> bool:
    """Say whether numbers averaged over seeds are of more than one."""
    return "n_seeds" in table and table["n_seeds"].max() > 1


def utility(summary: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return a method's model utility after each task."""
    return summary[(summary["method"] == method) & (summary["metric"] == "model_utility")]


def efficacy(summary: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return a method's forget efficacy on each task's forget set after each task."""
    return summary[(summary["method"] == method) & (summary["metric"] == "forget_efficacy")]


def current_tasks(summary: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return a method's forget efficacy on the task just unlearned; on every task before any."""
    cells = efficacy(summary, method)
    return cells[(cells["task_id"] == cells["after_task"]) | (cells["after_task"] == 0)]


def final_metrics(metrics: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return a method's metrics on each split after its last task; forget sets are averaged.

    Returns:
        Columns split, metric, value, ci_low, ci_high.
    """
    rows = metrics[metrics["method"] == method]
    rows = rows[rows["after_task"] == rows["after_task"].max()]
    return pd.DataFrame(
        [
            {"split": split, "metric": metric, **average_tasks(tasks)}
            for (split, metric), tasks in rows.groupby(["split", "metric"], sort=False)
        ]
    )


def average_tasks(tasks: pd.DataFrame) -> dict[str, float]:
    """Average a number over tasks with equal weights.

    The tasks' intervals come from independent resamples, so the distances of their bounds from the
    values add in quadrature (Zou and Donner 2008, doi:10.1002/sim.3095, "MOVER").

    Args:
        tasks: a row per task, with value, ci_low and ci_high; rows without a value are ignored.

    Returns:
        value, ci_low, ci_high; NaN if there is no row with a value. The bounds are also NaN if a
        value has none.
    """
    tasks = tasks.dropna(subset="value")
    if tasks.empty:
        return NOT_MEASURED
    value = tasks["value"].mean()
    below, above = (
        np.sqrt((distances**2).sum(skipna=False)) / len(tasks)
        for distances in (tasks["value"] - tasks["ci_low"], tasks["ci_high"] - tasks["value"])
    )
    return {"value": value, "ci_low": value - below, "ci_high": value + above}


def summary_table(
    summary: pd.DataFrame, labels: Mapping[str, str], residual: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Make the table of results, a row per method and task.

    With seeds, it is the mean of their tables (see ``seed_table``); each number of a row then has
    the bounds ``..._seed_low`` and ``..._seed_high`` of its interval over seeds, and the row
    ``n_seeds``. With the residual knowledge of a run, ``residual_knowledge`` is that of the model
    after the last task, and ``residual_attack`` the attack that got it back.
    """
    table = seed_table(summary, labels)
    if "seed" in table:
        # A mean of p-values has no interval.
        estimates = [name for name in SUMMARY_COLUMNS if name != "forget_quality"]
        keys = ["method", "after_task"]
        table = average_seeds(table, keys, {name: f"{name}_" for name in estimates})
    return table if residual is None else with_residual(table, residual, labels)


def seed_table(summary: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Make the table of results of each seed, a row per method, task and seed.

    Its numbers are MU, the FE of the task just unlearned, the mean FE of all tasks so far, forget
    quality and TOFU's utility. The first row is the target model; a retain-only model, if there is
    one, comes second. The FE of these two is the mean over all tasks. ``..._low`` and ``..._high``
    are the bounds of each number's 95 % interval. Forget quality is a p-value of the task just
    unlearned, without an interval; p-values have no mean, so the target model has one only if the
    run has a single task. ``..._terms`` lists the metrics in MU and in the FE of the task;
    ``reasons`` says what is missing in the row's numbers, and why. Rows of a run without seeds have
    no ``seed``; it is missing in rows of models that no seed has made.
    """
    rows = []
    axes = ["seed", "after_task"] if "seed" in summary else ["after_task"]
    for method, label in {**REFERENCE_LABELS, **labels}.items():
        cells = summary[summary["method"] == method].groupby(axes, sort=False, dropna=False)
        for names, cell in cells:
            of_cell = dict(zip(axes, names, strict=True))
            after_task = of_cell["after_task"]
            current = cell[(cell["task_id"] == after_task) | (after_task == 0)]
            estimates = (
                _only_one(cell, "model_utility"),
                average_tasks(current[current["metric"] == "forget_efficacy"]),
                average_tasks(cell[cell["metric"] == "forget_efficacy"]),
                _only_one(current, "forget_quality"),
                _only_one(cell, "tofu_model_utility"),
            )
            row = {"method": label, **of_cell}
            for name, estimate in zip(SUMMARY_COLUMNS, estimates, strict=True):
                row |= {
                    name: estimate["value"],
                    f"{name}_low": estimate["ci_low"],
                    f"{name}_high": estimate["ci_high"],
                }
            for name, lines in (("model_utility", cell), ("forget_efficacy", current)):
                row[f"{name}_terms"] = _joined(lines.loc[lines["metric"] == name, "terms"])
            lacking = cell[cell["reason"] != ""]
            if method == RETAIN_ONLY:  # which is not compared with itself
                lacking = lacking[lacking["metric"] != "forget_quality"]
            row["reasons"] = _joined(lacking["metric"] + ": " + lacking["reason"])
            rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype({"seed": "Int64"}) if "seed" in table else table


def with_residual(
    table: pd.DataFrame, residual: pd.DataFrame, labels: Mapping[str, str]
) -> pd.DataFrame:
    """Add to a table of results what attacks got back of the models after the last task.

    Args:
        table: a row per method and task.
        residual: from ``metrics.residual_knowledge``, with the ``label`` of the attack.
        labels: method -> label.
    """
    last = ~table["method"].duplicated(keep="last")
    found = residual.assign(method=residual["method"].map({**REFERENCE_LABELS, **labels}))
    found["label"] = found["label"].where(found["value"] > 0, "")
    names = {"value": "", "ci_low": "_low", "ci_high": "_high"}
    found = found.set_index("method").rename(
        columns={old: f"residual_knowledge{end}" for old, end in names.items()}
        | {"label": "residual_attack"}
    )
    for column in (*(f"residual_knowledge{end}" for end in names.values()), "residual_attack"):
        table[column] = table["method"].map(found[column]).where(last)
    return table


def told_apart(membership: pd.DataFrame) -> pd.DataFrame:
    """Return how well each model's scores tell all that it forgot, after its last task.

    Args:
        membership: the stacked tables of membership inference; lines without an AUC are left out.
    """
    is_last = membership["after_task"] == membership.groupby("method")["after_task"].transform(
        "max"
    )
    is_told = (membership["task_id"] == 0) & membership["auc"].notna()
    return membership[is_last & is_told]


def best_first(table: pd.DataFrame) -> list[str]:
    """Order the methods of a ``summary_table`` by MU + FE of all tasks so far, after the last."""
    last = table[table["after_task"] > 0].drop_duplicates("method", keep="last")
    result = last["model_utility"] + last["forget_efficacy_of_tasks_so_far"]
    return last.loc[result.sort_values(ascending=False, kind="stable").index, "method"].tolist()


def _joined(texts: pd.Series) -> str:
    return "; ".join(texts.drop_duplicates())


def _only_one(cell: pd.DataFrame, metric: str) -> dict[str, float]:
    lines = cell.loc[cell["metric"] == metric, list(NOT_MEASURED)]
    return lines.iloc[0].to_dict() if len(lines) == 1 else NOT_MEASURED


def answers_table(
    generations: Mapping[str, pd.DataFrame], labels: Mapping[str, str]
) -> pd.DataFrame:
    """Make the table of every evaluated question with its answers before and after unlearning.

    Args:
        generations: cell -> generations, of the target model and of each method's last task.
        labels: method -> label.

    Returns:
        ``split``, ``task_id``, ``row_id``, ``question``, ``reference``, ``before`` if the target
        model answered, and a column per method, named by its label.
    """
    keys = ["split", "task_id", "row_id"]
    of_method = {Cell.parse(cell).method: table for cell, table in generations.items()}
    table = next(iter(of_method.values()))[[*keys, "question", "reference"]]
    for method, generated in of_method.items():
        column = generated[[*keys, "generated"]]
        table = table.merge(column, on=keys, how="left")
        table = table.rename(columns={"generated": ({BEFORE: BEFORE} | labels)[method]})
    return table


def add_retain_only(row_metrics: pd.DataFrame, truth_ratios: pd.DataFrame) -> pd.DataFrame:
    """Add rows of a retain-only model of which only stored scores exist.

    Args:
        row_metrics: the stacked row metrics of a run.
        truth_ratios: of the retain-only model, from ``metrics.truth_ratios``.
    """
    keys = ["split", "task_id", "row_id"]
    asked = row_metrics[keys].drop_duplicates().assign(method=RETAIN_ONLY, after_task=0)
    rows = asked.merge(truth_ratios, on=["split", "row_id"])
    return pd.concat([row_metrics, rows], ignore_index=True)


def fingerprints(
    questions: pd.DataFrame, models: Mapping[str, pd.DataFrame], labels: Mapping[str, str]
) -> pd.DataFrame:
    """Collect hashes of a run's questions and models.

    Args:
        questions: the questions table, whose rows are hashed as JSON, in order.
        models: cell or method -> table with ``sha256`` of weights and tokenizer, whose last row
            counts, or the last of each seed.
        labels: method -> label.

    Returns:
        ``what`` ("questions", "before", or a method's label, with the seed if the run has any) and
        ``sha256``.
    """
    text = questions.to_json(orient="records", force_ascii=False)
    hashes = {"questions": hashlib.sha256(text.encode()).hexdigest()}
    labels = {**REFERENCE_LABELS, **labels}
    for cell, table in models.items():
        label = labels[Cell.parse(cell).method]
        last = table.drop_duplicates("seed", keep="last") if "seed" in table else table.tail(1)
        names = [f"{label}, seed {seed}" for seed in last["seed"]] if "seed" in table else [label]
        hashes |= dict(zip(names, last["sha256"], strict=True))
    return pd.DataFrame({"what": hashes.keys(), "sha256": hashes.values()})


def pick_examples(answers: pd.DataFrame, n_examples: int) -> pd.DataFrame:
    """Pick evenly spaced rows, with the first and the last, so that results do not decide."""
    positions = np.linspace(0, len(answers) - 1, min(n_examples, len(answers)))
    return answers.iloc[positions.round().astype(int)]
