"""The report: one HTML file about a run, without links to other files.

Jinja2 escapes every text of a model, a row or a parameter. The content security policy of the file
forbids the browser any request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from closer_look.data.cells import BEFORE
from closer_look.errors import InputError, listed
from closer_look.metrics import with_own_metrics
from closer_look.metrics.aggregates import FORGET_EFFICACY_TERMS, MODEL_UTILITY_TERMS
from closer_look.reporting.attacks import describe_attacks
from closer_look.reporting.costs import costs_table, machines
from closer_look.reporting.findings import describe_failures, describe_versions
from closer_look.reporting.leaderboard import tabulate_leaderboard
from closer_look.reporting.membership import tabulate_membership
from closer_look.reporting.pages import page_template
from closer_look.reporting.results import (
    REFERENCE_LABELS,
    STAGES,
    best_first,
    first_seed,
    over_seeds,
    pick_examples,
)
from closer_look.reporting.sentences import (
    describe_elsewhere,
    describe_figure,
    describe_judge,
    describe_knowledge,
    describe_methods,
    describe_model,
    describe_no_membership,
    describe_paraphrases,
    describe_retain_only,
    describe_scenario,
    describe_seeds,
    describe_splits,
    describe_terms,
    describe_unknown_tokens,
    describe_unlearning,
    method_labels,
    missing_numbers,
    other_runs,
)
from closer_look.reporting.wording import (
    BEFORE_LABEL,
    NO_ATTACKS,
    NO_BENCHMARKS,
    OTHER_ATTACKS,
    SPLIT_LABELS,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

N_EXAMPLES = 4
FIT_SIDE_BY_SIDE = 4
HEADLINE_LIBRARIES = (
    *("closer-look", "torch", "transformers", "tokenizers", "peft", "accelerate"),
    *("sentence-transformers", "rouge-score", "numpy", "pandas", "kedro"),
)


def render_report(
    *,
    summary: pd.DataFrame,
    summary_table: pd.DataFrame,
    answers: pd.DataFrame,
    row_metrics: pd.DataFrame,
    fingerprints: pd.DataFrame,
    node_costs: pd.DataFrame,
    questions: pd.DataFrame,
    run_record: Mapping[str, Any],
    unknown_tokens: pd.DataFrame,
    figures: Mapping[str, go.Figure],
    knowledge: pd.DataFrame | None = None,
    downstream: pd.DataFrame | None = None,
    membership: pd.DataFrame | None = None,
    recovered: pd.DataFrame | None = None,
    attack_results: pd.DataFrame | None = None,
    residual_knowledge: pd.DataFrame | None = None,
    leaderboard: pd.DataFrame | None = None,
) -> str:
    """Render the report.

    Args:
        summary: MU, FE and the like of every cell, with reasons for missing numbers. With seeds,
            it, row_metrics and membership are of all seeds, other tables of the first.
        summary_table: table from ``results.summary_table``.
        answers: table from ``results.answers_table``.
        row_metrics: of the target model and of each method after its last task, stacked.
        fingerprints: table from ``results.fingerprints``.
        node_costs: costs of the run's nodes so far; may be empty.
        questions: all rows of the run.
        run_record: record from ``run_record.run_record``.
        unknown_tokens: judge, split, share: what the judges cannot read of the references.
        figures: name, as in ``wording.FIGURES``, -> figure; figures without data are left out.
        knowledge: split, n_rows, n_known, min_rouge: the questions of each split that the model
            could answer, if the run used only these.
        downstream: general abilities before and after the last task: method, task, metric, value,
            standard_error, n_questions, n_few_shot (task and metric as lm-evaluation-harness
            writes them).
        membership: how well membership scores tell forgotten rows from others, stacked: method,
            after_task, score, task_id, auc, ci_low, ci_high, privleak, reason.
        recovered: what attacks got back of each row, if there were any.
        attack_results: over the rows; see ``metrics.attack_results``.
        residual_knowledge: see ``metrics.residual_knowledge``.
        leaderboard: table from ``leaderboard.leaderboard``, of a benchmark.

    Raises:
        InputError: the tables and the record are of different methods.
    """
    from plotly.offline import get_plotlyjs

    of_seeds, summary = summary, over_seeds(summary)
    row_metrics = first_seed(row_metrics)
    parameters = run_record["parameters"]
    columns = list(answers.columns[answers.columns.get_loc("reference") + 1 :])
    measured = set(row_metrics["method"])  # of some models made elsewhere there are only numbers
    labels = {name: of for name, of in method_labels(parameters).items() if name in measured}
    after = [column for column in columns if column != BEFORE]
    if set(after) != set(labels.values()):
        raise InputError(
            f"report: the answers are those of {listed(after)}, the run record names "
            f"{listed(list(labels.values()))}; run kedro run --tags reporting to rebuild all tables"
        )
    methods = describe_methods(parameters, labels)
    n_tasks = int(summary_table["after_task"].max())
    is_reference = summary_table["after_task"] == 0
    records = with_own_metrics(parameters["metrics"].get("own", ()))
    unmeasured = [NO_BENCHMARKS] if downstream is None else []
    membership = None if membership is None else over_seeds(membership)
    told = tabulate_membership(membership, parameters)
    if told is None:
        unmeasured += describe_no_membership(membership)
    seeds = parameters["experiment"].get("seeds") or []
    unmeasured += NO_ATTACKS if residual_knowledge is None else OTHER_ATTACKS
    drawn = {
        name: (name, *describe_figure(name, summary), _as_data(figure))
        for name, figure in figures.items()
        if figure.data
    }
    attacks = None
    if residual_knowledge is not None:
        attacks = describe_attacks(recovered, attack_results, residual_knowledge, answers, labels)
    tabulated = None
    if leaderboard is not None:
        tabulated = tabulate_leaderboard(leaderboard, summary_table, parameters)
    template = page_template(
        "report.html.jinja",
        number=_number,
        interval=_interval,
        p_value=_p_value,
        error=_error,
        duration=_duration,
        gigabytes=_gigabytes,
    )
    return template.render(
        n_tasks=n_tasks,
        compared=after or [BEFORE_LABEL],
        runs=seeds,
        scenario=describe_scenario(n_tasks, trained=bool(methods)),
        methods=methods,
        unlearning=describe_unlearning(parameters) if methods else "",
        models=[
            *([describe_model(parameters)] if BEFORE in measured else []),
            *describe_retain_only(parameters),
            *describe_elsewhere(parameters),
        ],
        judge=describe_judge(parameters),
        splits=describe_splits(questions[questions["task_id"] <= n_tasks], answers),
        knowledge=[] if knowledge is None else describe_knowledge(knowledge, parameters),
        failures=[*describe_failures(summary, labels), *describe_versions(node_costs)],
        held=describe_terms(summary),
        missing=[
            *missing_numbers(summary, parameters),
            *describe_paraphrases(questions, answers),
            *describe_unknown_tokens(unknown_tokens),
        ],
        has_facts=bool(row_metrics["entailment"].notna().any()),
        n_results=int((~is_reference).sum()),
        references=summary_table[is_reference].to_dict("records"),
        after=[
            rows.to_dict("records")
            for _, rows in summary_table[~is_reference].groupby("method", sort=False)
        ],
        has_quality=bool(summary_table["forget_quality"].notna().any()),
        has_tofu_utility=bool(summary_table["tofu_model_utility"].notna().any()),
        downstream=None if downstream is None else tabulate_downstream(downstream, parameters),
        membership=told,
        attacks=attacks,
        attack_map=drawn.pop("attack_map", None),
        leaderboard=tabulated,
        ranking=drawn.pop("ranking", None),
        figures=list(drawn.values()),
        metrics=[(metric.label, metric.sentence) for metric in records.values()],
        utility_terms=[records[term].label for term in MODEL_UTILITY_TERMS],
        efficacy_terms=[records[term].label for term in FORGET_EFFICACY_TERMS],
        examples=pick_by_split(answers),
        answer_columns=columns,
        first_shown=first_shown(columns, summary_table),
        answer_labels=[BEFORE_LABEL if column == BEFORE else column for column in columns],
        split_labels=SPLIT_LABELS,
        table=tabulate_answers(answers, columns, row_metrics, labels),
        unmeasured=[*unmeasured, *other_runs(parameters)],
        costs=describe_costs(node_costs, of_seeds, labels),
        machines=machines(node_costs),
        fingerprints=fingerprints.to_dict("records"),
        seeds=describe_seeds(parameters),
        parameters=_as_yaml(parameters),
        run_record=run_record,
        headline_libraries=HEADLINE_LIBRARIES,
        written=datetime.now(UTC),
        plotly_js=get_plotlyjs(),
    )


def tabulate_downstream(
    downstream: pd.DataFrame, parameters: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Tabulate benchmarks: a column for each; rows are before, then each method's last task."""
    tasks = downstream.drop_duplicates("task")
    measured = downstream.set_index(["method", "task"])[["value", "standard_error"]]
    labels = {BEFORE: REFERENCE_LABELS[BEFORE]} | method_labels(parameters)
    rows = []
    for method in downstream["method"].unique():
        cells = measured.reindex([(method, task) for task in tasks["task"]])
        rows.append({"label": labels[method], "cells": cells.to_dict("records")})
    heads = [{"task": task.task, "how": _how(task)} for task in tasks.itertuples()]
    return {"tasks": heads, "rows": rows}


def _how(task: Any) -> str:
    """Describe metric, filter, few-shot examples and questions of a benchmark."""
    how = task.metric.removesuffix(",none").split(",")
    if not pd.isna(task.n_few_shot):  # the tasks of a group may differ
        how.append(f"{task.n_few_shot}-shot")
    return ", ".join([*how, f"{task.n_questions:,} questions"])


def pick_by_split(answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Pick a few questions to forget and as many to retain, evenly spaced."""
    is_forget = answers["split"] == "forget"
    groups = {"Should be forgotten": answers[is_forget], "Should be kept": answers[~is_forget]}
    return [
        {"title": title, "rows": pick_examples(rows, N_EXAMPLES).to_dict("records")}
        for title, rows in groups.items()
    ]


def first_shown(columns: list[str], summary_table: pd.DataFrame) -> list[int]:
    """Choose answers to show before a reader chooses: of the model before and the best methods.

    Args:
        columns: the columns of answers.
        summary_table: table from ``results.summary_table``.

    Returns:
        Their positions; none if all fit side by side.
    """
    if len(columns) <= FIT_SIDE_BY_SIDE:
        return []
    names = [column for column in best_first(summary_table) if column in columns]
    best = sorted(columns.index(name) for name in names[: FIT_SIDE_BY_SIDE - 1])
    return [*([columns.index(BEFORE)] if BEFORE in columns else []), *best]


def tabulate_answers(
    answers: pd.DataFrame,
    columns: list[str],
    row_metrics: pd.DataFrame,
    labels: Mapping[str, str],
) -> list[list[Any]]:
    """Make the rows of the report's answer table, which JavaScript shows.

    A row holds split, task, question and reference, then a list per model: its answer, ROUGE,
    probability, and whether it states the fact (1 or 0). Values that were not measured are None.
    """
    column_of = {BEFORE: BEFORE} | dict(labels)
    measured = {
        (column_of[row.method], row.split, row.row_id): (row.rouge, row.probability, row.entailment)
        for row in row_metrics[row_metrics["method"].isin(column_of)].itertuples()
    }
    table = []
    for row in answers.to_dict("records"):
        cells = [row["split"], row["task_id"], row["question"], row["reference"]]
        for column in columns:
            numbers = measured[column, row["split"], row["row_id"]]
            cells.append([row[column], *(None if pd.isna(n) else round(n, 3) for n in numbers)])
        table.append(cells)
    return table


def describe_costs(
    node_costs: pd.DataFrame, summary: pd.DataFrame, labels: Mapping[str, str]
) -> dict[str, Any] | None:
    """Tabulate the time of each stage and the memory of each method; None without any costs."""
    if node_costs.empty:
        return None
    table = costs_table(node_costs, summary, labels)
    return {
        "stages": [stage for stage in STAGES.values() if stage in table],
        "rows": table.to_dict("records"),
        "on_gpu": bool(table["peak_gpu_memory"].notna().any()),
    }


def _as_yaml(parameters: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(parameters, sort_keys=False, allow_unicode=True)


def _as_data(figure: go.Figure) -> dict[str, Any]:
    return json.loads(figure.to_json())


def _number(value: float) -> str:
    return "n/a" if pd.isna(value) else f"{value:.3f}"


def _p_value(value: float, missing: str) -> str:
    return missing if pd.isna(value) else f"{value:.2g}"


def _error(value: float) -> str:
    return "" if pd.isna(value) else f"± {value:.3f}"


def _duration(seconds: float) -> str:
    return "" if pd.isna(seconds) else str(timedelta(seconds=round(seconds)))


def _gigabytes(n_bytes: float) -> str:
    return "" if pd.isna(n_bytes) else f"{n_bytes / 1e9:.1f} GB"


def _interval(row: Mapping[str, float], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if pd.isna(low) else f"{low:.2f} to {high:.2f}"
