"""One HTML file that shows a run and links nothing outside itself.

Every text of a model, a row or a parameter is escaped by Jinja2; the file carries a content
security policy that forbids the browser any request.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel

from closer_look.figures import BEFORE_LABEL, METRIC_LABELS, SPLIT_LABELS
from closer_look.results import BEFORE, pick_examples

if TYPE_CHECKING:
    import plotly.graph_objects as go

LIBRARIES = ("closer-look", "kedro", "torch", "transformers", "peft", "pandas", "plotly")
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
        "right how much of the task just unlearned is gone (FE). Whiskers are 95 % intervals.",
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
        "Hollow grey marks are the model before unlearning, coloured ones are after the last task. "
        "On the forget set marks should move left (but for entropy), elsewhere they should "
        "not move. The forget set is the mean over its tasks.",
    ),
    "training_curves": (
        "How unlearning went",
        "Solid is the forget loss, dotted the retain loss, against optimiser steps through all "
        "tasks, which vertical lines part. Losses of different methods are not comparable.",
    ),
    "finetuning_curves": (
        "How the model had learned it",
        "Against optimiser steps, the loss should have fallen and levelled off: only what was "
        "known can be forgotten.",
    ),
}

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
    questions: pd.DataFrame,
    parameters: Mapping[str, Any],
    figures: Mapping[str, go.Figure],
) -> str:
    """Fill the template.

    Args:
        summary: MU and FE of every cell, with reasons for what is missing.
        summary_table: what ``results.summary_table`` gives.
        answers: what ``results.answers_table`` gives.
        questions: all rows that the run knew.
        parameters: of the run; Kedro gives those that a node takes as pydantic models.
        figures: name, as in ``FIGURES``, -> figure.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    parameters = _plain(parameters)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("closer_look", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = _number
    environment.filters["interval"] = _interval
    columns = [BEFORE, *answers.columns[answers.columns.get_loc(BEFORE) + 1 :]]
    n_tasks = int(summary_table["after_task"].max())
    return environment.get_template("report.html.jinja").render(
        n_tasks=n_tasks,
        methods=describe_methods(parameters),
        model=describe_model(parameters),
        judge=describe_judge(parameters),
        splits=describe_splits(questions[questions["task_id"] <= n_tasks], answers),
        n_results=len(summary_table) - 1,
        before=summary_table.iloc[0],
        after=[rows.to_dict("records") for rows in _by_method(summary_table)],
        figures=[(name, *FIGURES[name], _as_data(figure)) for name, figure in figures.items()],
        metrics=[(METRIC_LABELS[metric], meaning) for metric, meaning in METRICS.items()],
        examples=pick_by_split(answers),
        answer_columns=columns,
        answer_labels=[BEFORE_LABEL, *columns[1:]],
        split_labels=SPLIT_LABELS,
        table=tabulate_answers(answers, columns),
        unmeasured=[*missing_numbers(summary, parameters), *NEVER_MEASURED],
        parameters=_as_yaml(_of_this_run(parameters)),
        versions={name: metadata.version(name) for name in LIBRARIES},
        python=platform.python_version(),
        platform=platform.platform(),
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


def describe_model(parameters: Mapping[str, Any]) -> str:
    """Say what model it was."""
    base = parameters["base_model"]
    if base.get("pretrained"):
        return f"{base['pretrained']}, a pretrained language model"
    small = base["small_llama"]
    return (
        f"A small Llama trained from scratch for this run: {small['layers']} layers of width "
        f"{small['hidden_size']}, {small['heads']} attention heads, a vocabulary of "
        f"{small['vocabulary_size']:,} word pieces"
    )


def describe_judge(parameters: Mapping[str, Any]) -> str:
    """Say how it was decided whether an answer states the fact."""
    judge = parameters["judges"]["entailment"]
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


def pick_by_split(answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Take a few questions to forget and as many to retain, at even distances."""
    is_forget = answers["split"] == "forget"
    groups = {"Should be forgotten": answers[is_forget], "Should be kept": answers[~is_forget]}
    return [
        {"title": title, "rows": pick_examples(rows, N_EXAMPLES).to_dict("records")}
        for title, rows in groups.items()
    ]


def tabulate_answers(answers: pd.DataFrame, columns: list[str]) -> list[list[Any]]:
    """Rows of split, task, question, reference, then an answer a column, for the JavaScript."""
    table = answers[["split", "task_id", "question", "reference", *columns]].astype(object)
    return table.where(table.notna(), None).to_numpy().tolist()


def missing_numbers(summary: pd.DataFrame, parameters: Mapping[str, Any]) -> list[str]:
    """Say which numbers are missing or incomplete in this run, and why."""
    sentences = []
    if "forget_quality" not in set(summary["metric"]):
        sentences.append(
            "Forget Quality, the test whether the model can be told from one that never saw the "
            "forget set: it needs a second model trained without that set, and this run has none."
        )
    labels = {name: method["label"] for name, method in parameters["methods"].items()}
    for reason, rows in summary[summary["reason"] != ""].groupby("reason", sort=False):
        names = ", ".join(sorted({metric.replace("_", " ") for metric in rows["metric"]}))
        whom = ", ".join(labels.get(method, method) for method in rows["method"].unique())
        sentences.append(f"{names.capitalize()} ({whom}): {reason}.")
    return sentences


def _by_method(summary_table: pd.DataFrame) -> Iterable[pd.DataFrame]:
    after = summary_table[summary_table["after_task"] > 0]
    return [rows for _, rows in after.groupby("method", sort=False)]


def _of_this_run(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out methods that the run knew but did not use."""
    used = parameters["experiment"]["methods"]
    return {**parameters, "methods": {name: parameters["methods"][name] for name in used}}


def _plain(value: Any) -> Any:
    """Turn pydantic models, however deep, into what JSON knows."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _as_yaml(parameters: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(parameters, sort_keys=False, allow_unicode=True)


def _as_data(figure: go.Figure) -> dict[str, Any]:
    return json.loads(figure.to_json())


def _number(value: float) -> str:
    return "n/a" if pd.isna(value) else f"{value:.3f}"


def _interval(row: Mapping[str, float], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if pd.isna(low) else f"{low:.2f} to {high:.2f}"
