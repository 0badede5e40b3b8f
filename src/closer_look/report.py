"""One HTML file that shows a run and links nothing outside itself.

Every text of a model, a row or a parameter is escaped by Jinja2; the file carries a content
security policy that forbids the browser any request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from closer_look.errors import InputError, listed
from closer_look.figures import BEFORE_LABEL, METRIC_LABELS, SPLIT_LABELS
from closer_look.metrics import NO_RETAIN_ONLY_MODEL
from closer_look.results import (
    BEFORE,
    REFERENCE_LABELS,
    RETAIN_ONLY,
    STAGES,
    costs_table,
    machines,
    pick_examples,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

N_EXAMPLES = 4

SPLITS = {
    "forget": "what the model was asked to forget",
    "retain": "questions of the same kind that it should still answer",
    "neighbour": "people close to the forgotten ones, whom it should still know",
    "real_authors": "real authors, whom it should still know",
    "world_facts": "general knowledge that it should keep",
}

LOSSES = {
    "gradient_ascent": "make the true answer less likely, without bound",
    "npo": "make the true answer less likely, more gently the more it is gone",
    "maximum_entropy": "make every next word equally likely, as if the answer had never been seen",
    "dpo": "prefer a refusal (“I don't know that”) to the true answer",
    "idk": "answer with a refusal (“I don't know that”)",
    "llmu": "make the true answer less likely and another question's answer likelier",
    "gradient_descent": "go on learning the true answer",
    "kl": "keep every prediction close to the model's before unlearning",
    "answer_preservation": "keep the true answer more likely than a refusal",
}

FIGURES = {
    "curves": (
        "Kept and forgotten, task by task",
        "Higher is better on both sides: on the left what the model still does well (MU), on the "
        "right how much of the task just unlearned is gone (FE). Whiskers are 95 % intervals. "
        "Colour and shape stand for what makes a method forget, filling and dashes for what makes "
        "it keep the rest; grey and dotted is the model before unlearning.",
    ),
    "forgetting_matrix": (
        "Does it stay forgotten?",
        "Each row is a task, each column a number of tasks unlearned (0 is before), each cell an "
        "FE. Read from left to right, a row should turn blue when its task is unlearned and stay "
        "blue; a cell that pales again is knowledge that came back. Empty cells are the future.",
    ),
    "trade_off": (
        "The price of forgetting",
        "The upper right corner is where one wants to be. Each mark is the model after one more "
        "task, the largest is the last; FE is the mean over all tasks so far.",
    ),
    "metric_values": (
        "Every metric behind the two numbers",
        "Full grey stars are the model before unlearning, coloured marks are after the last task. "
        "On the forget set marks should move left (but for entropy), elsewhere they should "
        "not move. The forget set is the mean over its tasks.",
    ),
    "truth_ratios": (
        "Does it still know the truth when it sees it?",
        "How many of the forgotten questions have a truth ratio up to so much: how much likelier "
        "than wrong answers worded alike the model finds the true one. Far to the right lies a "
        "model that remembers. Too far to the left is no better: it gives the truth away by "
        "avoiding it. After the last task, all forget sets together.",
    ),
    "training_curves": (
        "How unlearning went",
        "In a method's own panel solid is the forget loss, dotted the retain loss, against "
        "optimiser steps through all tasks, which vertical lines part. Losses of different methods "
        "are not comparable.",
    ),
    "finetuning_curves": (
        "How the model had learned it",
        "Against optimiser steps, the loss should have fallen and levelled off: only what was "
        "known can be forgotten.",
    ),
}

RETAIN_ONLY_AID = (
    "Hollow grey stars are a model that was never trained on what is forgotten: where unlearning "
    "should arrive."
)
RETAIN_ONLY_RATIOS_AID = (
    "Dashed grey is a model that was never trained on what is forgotten: where unlearning should "
    "arrive. p is that of the Kolmogorov-Smirnov test against it; above 0.05 the two cannot be "
    "told apart."
)
SHOW_RETAIN_ONLY = ("curves", "trade_off", "metric_values")

RETAIN_ONLY_MODELS = {
    "finetuned": "Beside it stands a retain-only model, taught in the same way, but never what is "
    "to be forgotten",
    "pretrained": "Beside it stands a retain-only model, {pretrained}, which was never trained on "
    "what is to be forgotten",
    "scores": "Its forget quality compares with stored scores of a retain-only model, which was "
    "never trained on what is to be forgotten",
}

SUMMARIES = {
    "model_utility": "model utility",
    "forget_efficacy": "forget efficacy",
    "forget_quality": "forget quality",
    "tofu_model_utility": "TOFU's utility",
}

IN_WORDS = {
    **METRIC_LABELS,
    "forget": "the forget set",
    "retain": "the retain set",
    "neighbour": "neighbours",
    "real_authors": "real authors",
    "world_facts": "world facts",
}
"""Names in the columns ``terms`` and ``reason`` of a summary, as a reader knows them."""

METRICS = {
    "rouge": "how much of the reference answer's wording the model's answer holds",
    "probability": "how likely the model finds the true answer, per word piece (where there are "
    "options to choose from: against these)",
    "truth_ratio": "whether the model finds the reworded truth likelier than wrong answers worded "
    "alike",
    "cosine_similarity": "whether the model's answer means the same as the reference",
    "entailment": "whether the model's answer states the fact",
    "token_entropy": "whether the answer is varied text, not one word over and over",
}

NO_FORGET_QUALITY = (
    "Forget Quality, the test whether the model can be told from one that never saw the "
    "forget set: it needs a second model trained without that set, and this run has none."
)
NO_BENCHMARKS = (
    "General benchmarks (lm-evaluation-harness) were not run: whether the model still reasons, "
    "calculates and follows a text as before is not known."
)
NEVER_MEASURED = (
    "Attacks that bring knowledge back: fine-tuning on a few forgotten rows (relearning), "
    "quantisation, reading the model's inner states, hints and role play in the prompt.",
    "Questions in other words or another language than those listed above, and whether a fact "
    "leaks in answers to other questions.",
    "Sampled answers: each question was answered once, with the likeliest word at each step.",
    "Membership inference: whether one can tell that the rows were once trained on.",
    "Other runs: intervals say how much a number hangs on the questions that were asked; another "
    "seed of training may differ by more.",
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
    figures: Mapping[str, go.Figure],
    knowledge: pd.DataFrame | None = None,
    downstream: pd.DataFrame | None = None,
) -> str:
    """Fill the template.

    Args:
        summary: MU, FE and the like of every cell, with reasons for what is missing.
        summary_table: what ``results.summary_table`` gives.
        answers: what ``results.answers_table`` gives.
        row_metrics: of the target model and of each method after its last task, stacked.
        fingerprints: what ``results.fingerprints`` gives.
        node_costs: what the nodes of the run have cost so far; may be empty.
        questions: all rows that the run knew.
        run_record: what ``run_record.run_record`` gives.
        figures: name, as in ``FIGURES``, -> figure; those without data are left out.
        knowledge: where only questions that the model could answer were used, how many those were
            of each set: split, n_rows, n_known, min_rouge.
        downstream: general abilities before and after the last task: method, task, metric, value,
            standard_error, n_questions, n_few_shot (task and metric as lm-evaluation-harness
            writes them).

    Raises:
        InputError: the tables are of a run with other methods than the record.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    parameters = run_record["parameters"]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("closer_look", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = _number
    environment.filters["interval"] = _interval
    environment.filters["p_value"] = _p_value
    environment.filters["error"] = _error
    environment.filters["duration"] = _duration
    environment.filters["gigabytes"] = _gigabytes
    columns = [BEFORE, *answers.columns[answers.columns.get_loc(BEFORE) + 1 :]]
    labels = _labels(parameters)
    if set(columns[1:]) != set(labels.values()):
        raise InputError(
            f"report: the answers are those of {listed(columns[1:])}, the run record names "
            f"{listed(list(labels.values()))}; kedro run --tags reporting makes all tables anew"
        )
    n_tasks = int(summary_table["after_task"].max())
    is_reference = summary_table["after_task"] == 0
    unmeasured = [NO_BENCHMARKS] if downstream is None else []
    return environment.get_template("report.html.jinja").render(
        n_tasks=n_tasks,
        methods=describe_methods(parameters),
        unlearning=describe_unlearning(parameters),
        models=[describe_model(parameters), *describe_retain_only(parameters)],
        judge=describe_judge(parameters),
        splits=describe_splits(questions[questions["task_id"] <= n_tasks], answers),
        knowledge=[] if knowledge is None else describe_knowledge(knowledge, parameters),
        held=describe_terms(summary),
        missing=[*missing_numbers(summary, parameters), *describe_paraphrases(questions, answers)],
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
        figures=[
            (name, *describe_figure(name, summary), _as_data(figure))
            for name, figure in figures.items()
            if figure.data
        ],
        metrics=[(METRIC_LABELS[metric], meaning) for metric, meaning in METRICS.items()],
        examples=pick_by_split(answers),
        answer_columns=columns,
        answer_labels=[BEFORE_LABEL, *columns[1:]],
        split_labels=SPLIT_LABELS,
        table=tabulate_answers(answers, columns, row_metrics, labels),
        unmeasured=[*unmeasured, *NEVER_MEASURED],
        costs=describe_costs(node_costs, summary, labels),
        machines=machines(node_costs),
        fingerprints=fingerprints.to_dict("records"),
        seeds=find_seeds(parameters),
        parameters=_as_yaml(parameters),
        run_record=run_record,
        written=datetime.now(UTC),
        plotly_js=get_plotlyjs(),
    )


def describe_methods(parameters: Mapping[str, Any]) -> list[dict[str, str]]:
    """Say in words what each method of the run does on the forget rows and on the others."""
    methods = [parameters["methods"][name] for name in parameters["experiment"]["methods"]]
    return [
        {"label": method["label"]}
        | {term: _loss_in_words(method[term]["loss"]) for term in ("forget", "retain")}
        | {f"{term}_weight": method[term].get("weight", 1) for term in ("forget", "retain")}
        for method in methods
    ]


def _loss_in_words(loss: str) -> str:
    return LOSSES.get(loss, loss.replace("_", " "))


def describe_unlearning(parameters: Mapping[str, Any]) -> str:
    """Say what of the model was trained where it was not everything."""
    lora = parameters["unlearning"].get("lora")
    if not lora:
        return ""
    return (
        f"All methods trained LoRA adapters of rank {lora['rank']} and left the model's own "
        "weights as they were"
    )


def describe_model(parameters: Mapping[str, Any]) -> str:
    """Say what model it was that had to forget."""
    base = parameters["base_model"]
    if base.get("pretrained"):
        if not parameters["experiment"].get("finetuning", True):
            return f"{base['pretrained']}, as it came, not fine-tuned for this run"
        splits = parameters["finetuning"].get("splits")
        sets = listed([f"the {SPLIT_LABELS[s].lower()}" for s in splits or ()]) or "all sets below"
        return f"{base['pretrained']}, fine-tuned for this run on questions of {sets}"
    small = base["small_llama"]
    return (
        f"A small Llama trained from scratch for this run: {small['layers']} layers of width "
        f"{small['hidden_size']}, {small['heads']} attention heads, a vocabulary of "
        f"{small['vocabulary_size']:,} word pieces"
    )


def describe_retain_only(parameters: Mapping[str, Any]) -> list[str]:
    """Say what model that never saw the forget set there is to compare with, if there is one."""
    kind = parameters["experiment"].get("retain_only")
    if not kind:
        return []
    return [RETAIN_ONLY_MODELS[kind].format(**parameters.get("retain_only", {}))]


def describe_judge(parameters: Mapping[str, Any]) -> str:
    """Say how it was decided whether an answer states the fact."""
    judge = parameters["judges"].get("entailment")
    if judge is None:
        return "Whether an answer states the fact was not judged: the run named no judge."
    if judge == "key_fact":
        return "An answer states the fact if the row's key words stand in it."
    return f"Whether an answer states the fact was judged by the model {judge}."


def describe_splits(questions: pd.DataFrame, answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the rows of each split, known and evaluated."""
    known, asked = questions["split"].value_counts(), answers["split"].value_counts()
    return [
        {
            "label": SPLIT_LABELS[split],
            "meaning": meaning,
            "known": int(known.get(split, 0)),
            "asked": int(asked[split]),
        }
        for split, meaning in SPLITS.items()
        if split in asked
    ]


def describe_knowledge(knowledge: pd.DataFrame, parameters: Mapping[str, Any]) -> list[str]:
    """Say how many questions of each set the model could answer at all."""
    judged = (
        ", and the judge finds the fact stated" if parameters["judges"].get("entailment") else ""
    )
    return [
        f"Of {row.n_rows:,} questions of the {SPLIT_LABELS[row.split].lower()} the model could "
        f"answer {row.n_known:,} before unlearning (ROUGE-L recall at least {row.min_rouge:g}"
        f"{judged}); only these are used."
        for row in knowledge.itertuples()
    ]


def describe_figure(name: str, summary: pd.DataFrame) -> tuple[str, str]:
    """Title and reading aid of a figure."""
    title, aid = FIGURES[name]
    is_compared = summary.loc[summary["metric"] == "forget_quality", "value"].notna().any()
    if name == "truth_ratios" and is_compared:
        aid = f"{aid} {RETAIN_ONLY_RATIOS_AID}"
    if name in SHOW_RETAIN_ONLY and RETAIN_ONLY in set(summary["method"]):
        aid = f"{aid} {RETAIN_ONLY_AID}"
    return title, aid


def tabulate_downstream(
    downstream: pd.DataFrame, parameters: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """A column a benchmark; a row before, then a row a method after its last task."""
    tasks = downstream.drop_duplicates("task")
    measured = downstream.set_index(["method", "task"])[["value", "standard_error"]]
    labels = {BEFORE: REFERENCE_LABELS[BEFORE]} | _labels(parameters)
    rows = []
    for method in downstream["method"].unique():
        cells = measured.reindex([(method, task) for task in tasks["task"]])
        rows.append({"label": labels[method], "cells": cells.to_dict("records")})
    heads = [{"task": task.task, "how": _how(task)} for task in tasks.itertuples()]
    return {"tasks": heads, "rows": rows}


def _how(task: Any) -> str:
    """Metric, filter, examples and questions of a benchmark."""
    how = task.metric.removesuffix(",none").split(",")
    if not pd.isna(task.n_few_shot):  # the tasks of a group may differ
        how.append(f"{task.n_few_shot}-shot")
    return ", ".join([*how, f"{task.n_questions:,} questions"])


def pick_by_split(answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Take a few questions to forget and as many to retain, at even distances."""
    is_forget = answers["split"] == "forget"
    groups = {"Should be forgotten": answers[is_forget], "Should be kept": answers[~is_forget]}
    return [
        {"title": title, "rows": pick_examples(rows, N_EXAMPLES).to_dict("records")}
        for title, rows in groups.items()
    ]


def tabulate_answers(
    answers: pd.DataFrame,
    columns: list[str],
    row_metrics: pd.DataFrame,
    labels: Mapping[str, str],
) -> list[list[Any]]:
    """Rows of split, task, question, reference, then a column a model, for the JavaScript.

    A model's column holds its answer, ROUGE, probability, and whether the fact is stated (1 or 0);
    what was not measured is None.
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
    """Time of each stage and memory of each method, for a table; None where nothing is known."""
    if node_costs.empty:
        return None
    table = costs_table(node_costs, summary, labels)
    return {
        "stages": [stage for stage in STAGES.values() if stage in table],
        "rows": table.to_dict("records"),
        "on_gpu": bool(table["peak_gpu_memory"].notna().any()),
    }


def find_seeds(parameters: Mapping[str, Any]) -> list[str]:
    """List the seeds among the parameters, each behind the name of its group."""
    seeds = []
    for group, values in parameters.items():
        if isinstance(values, Mapping):
            seeds += [f"{group.replace('_', ' ')} {values['seed']}"] if "seed" in values else []
            seeds += find_seeds(values)
    return seeds


def describe_terms(summary: pd.DataFrame) -> list[str]:
    """Say what each number of the run is made of."""
    return [
        f"{_capital(SUMMARIES[metric])}{_of_tasks(rows, summary)} holds {_in_words(terms)}."
        for metric in SUMMARIES
        for terms, rows in summary[summary["metric"] == metric].groupby("terms", sort=False)
        if terms
    ]


def missing_numbers(summary: pd.DataFrame, parameters: Mapping[str, Any]) -> list[str]:
    """Say which numbers are missing or incomplete in this run, and why."""
    # A retain-only model is not compared with itself.
    summary = summary[(summary["method"] != RETAIN_ONLY) | (summary["metric"] != "forget_quality")]
    is_not_compared = summary["reason"] == NO_RETAIN_ONLY_MODEL
    is_missing = is_not_compared[summary["metric"] == "forget_quality"].all()
    sentences = [NO_FORGET_QUALITY] if is_missing else []
    labels = REFERENCE_LABELS | _labels(parameters)
    for reason, rows in summary[(summary["reason"] != "") & ~is_not_compared].groupby(
        "reason", sort=False
    ):
        metrics, methods = set(rows["metric"]), rows["method"].unique()
        names = ", ".join(sorted(SUMMARIES[metric] for metric in metrics))
        names += _of_tasks(rows, summary)
        if set(summary.loc[summary["metric"].isin(metrics), "method"]) - set(methods):
            names += f" ({', '.join(labels[method] for method in methods)})"
        says = _in_words(reason)
        sentences.append(_capital(says if says.startswith(names) else f"{names}: {says}") + ".")
    return sentences


def _of_tasks(rows: pd.DataFrame, summary: pd.DataFrame) -> str:
    """Name the tasks of these rows, unless they are all that their metrics have."""
    tasks = set(rows["task_id"])
    if tasks == set(summary.loc[summary["metric"].isin(rows["metric"]), "task_id"]):
        return ""
    return f" of task {listed([str(task) for task in sorted(tasks)])}"


def _in_words(text: str) -> str:
    return re.sub(r"[\w-]+", lambda word: IN_WORDS.get(word[0], word[0]), text)


def _capital(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}"


def describe_paraphrases(questions: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
    """Say of how many truth ratios the true answer is not reworded."""
    asked = questions[questions["row_id"].isin(answers["row_id"])]
    n_without = int(asked["paraphrased_answer"].isna().sum())
    if not n_without:
        return []
    return [
        f"{n_without:,} of {len(asked):,} questions have no paraphrased answer: their truth ratio, "
        "where they have wrong answers, is that of the answer itself."
    ]


def _labels(parameters: Mapping[str, Any]) -> dict[str, str]:
    return {name: method["label"] for name, method in parameters["methods"].items()}


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
