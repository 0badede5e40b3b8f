"""Sentences of the report that depend on the run."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from closer_look.data.cells import RETAIN_ONLY
from closer_look.errors import listed
from closer_look.metrics import METRICS, NO_RETAIN_ONLY_MODEL
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.models import MeasuredModelParameters
from closer_look.reporting.drawing import MANY
from closer_look.reporting.method_sentences import describe_method
from closer_look.reporting.results import REFERENCE_LABELS, are_means
from closer_look.reporting.wording import (
    AIDS_OF_MANY,
    FIGURES,
    JUDGES,
    NEVER_MEASURED,
    NO_FORGET_QUALITY,
    NO_MEMBERSHIP,
    OTHER_TARGET_MODELS,
    RETAIN_ONLY_AID,
    RETAIN_ONLY_MODELS,
    RETAIN_ONLY_RATIOS_AID,
    SEED_AIDS,
    SEED_AIDS_OF_MANY,
    SHOW_RETAIN_ONLY,
    SHOW_RETAIN_ONLY_OF_MANY,
    SPLIT_LABELS,
    SPLIT_MEANINGS,
    SPLITS_IN_A_SENTENCE,
    SUMMARIES,
)


def method_labels(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the label of each method of a run record, and of each model made elsewhere."""
    labels = {name: method["label"] for name, method in parameters["methods"].items()}
    models = parameters.get("models") or {}
    return labels | {name: model.get("label", name) for name, model in models.items()}


def describe_scenario(n_tasks: int, *, trained: bool) -> str:
    """Describe what was asked of the models."""
    if not trained:
        return "Models are measured as they came; nothing was trained."
    if n_tasks == 1:
        return "One request to forget."
    return (
        f"Continual unlearning: {n_tasks} requests to forget, and each starts from the model that "
        "the one before it left."
    )


def describe_elsewhere(parameters: Mapping[str, Any]) -> list[str]:
    """Describe the models that were made elsewhere."""
    models = {
        name: MeasuredModelParameters.model_validate(model)
        for name, model in (parameters.get("models") or {}).items()
    }
    return [
        f"{model.label or name} is {model.base_model.pretrained}, made elsewhere and measured as "
        f"it came"
        if model.base_model
        else f"The numbers of {model.label or name} are those of {model.evaluation}, made by "
        f"OpenUnlearning: on the rows, with the prompt and up to the length of answers set there"
        for name, model in models.items()
    ]


def describe_methods(parameters: Mapping[str, Any], names: Collection[str]) -> list[dict[str, Any]]:
    """Describe these methods, each by its label and sentences on what it does."""
    methods = [method for name, method in parameters["methods"].items() if name in names]
    return [
        {"label": method.label, "sentences": describe_method(method)}
        for method in map(MethodParameters.model_validate, methods)
    ]


def describe_unlearning(parameters: Mapping[str, Any]) -> str:
    """Describe which weights were trained; "" if all."""
    lora = parameters["unlearning"].get("lora")
    if not lora:
        return ""
    named = lora.get("target_modules", "all-linear")
    layers = listed([named] if isinstance(named, str) else named)
    where = "all linear layers" if named == "all-linear" else f"the layers {layers}"
    return (
        f"All trainings made LoRA adapters of rank {lora['rank']} on {where} and left the model's "
        "own weights unchanged"
    )


def describe_model(parameters: Mapping[str, Any]) -> str:
    """Describe the target model."""
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
    """Describe the retain-only model, if there is one."""
    kind = parameters["experiment"].get("retain_only")
    if not kind:
        return []
    return [RETAIN_ONLY_MODELS[kind].format(**parameters.get("retain_only", {}))]


def describe_judge(parameters: Mapping[str, Any]) -> str:
    """Describe how the run decided whether an answer states the fact."""
    judge = parameters["judges"].get("entailment")
    if judge is None:
        return "Whether an answer states the fact was not judged: the run named no judge."
    if judge == "key_fact":
        return "An answer states the fact if it contains the row's key words."
    return f"Whether an answer states the fact was judged by the model {judge}."


def describe_splits(questions: pd.DataFrame, answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the rows of each split: all of the run, and those evaluated."""
    known, asked = questions["split"].value_counts(), answers["split"].value_counts()
    return [
        {
            "label": SPLIT_LABELS[split],
            "meaning": meaning,
            "known": int(known.get(split, 0)),
            "asked": int(asked[split]),
        }
        for split, meaning in SPLIT_MEANINGS.items()
        if split in asked
    ]


def describe_knowledge(knowledge: pd.DataFrame, parameters: Mapping[str, Any]) -> list[str]:
    """Say how many questions of each split the model could answer before unlearning."""
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
    """Return title and reading aid of a figure."""
    title, aid = FIGURES[name]
    are_many = len(set(summary["method"]) - set(REFERENCE_LABELS)) > MANY
    if are_many:
        aid = AIDS_OF_MANY.get(name, aid)
    is_compared = summary.loc[summary["metric"] == "forget_quality", "value"].notna().any()
    if name == "truth_ratios" and is_compared:
        aid = f"{aid} {RETAIN_ONLY_RATIOS_AID}"
    of_seeds = SEED_AIDS_OF_MANY if are_many else SEED_AIDS
    if are_means(summary) and name in of_seeds:
        aid = f"{aid} {of_seeds[name]}"
    shown = SHOW_RETAIN_ONLY_OF_MANY if are_many else SHOW_RETAIN_ONLY
    if name in shown and RETAIN_ONLY in set(summary["method"]):
        aid = f"{aid} {RETAIN_ONLY_AID}"
    return title, aid


def describe_seeds(parameters: Mapping[str, Any]) -> list[str]:
    """List the seeds of a run, each with the name of what it seeds."""
    seeds = parameters["experiment"].get("seeds")
    if not seeds:
        return find_seeds(parameters)
    replaced, what = ["forget_set", "unlearning"], "plans and unlearning"
    if parameters["experiment"].get("seed_target"):
        replaced += ["base_model", "finetuning"]
        what = "target models, plans and unlearning"
    others = {group: values for group, values in parameters.items() if group not in replaced}
    return [f"{what} {listed([*map(str, seeds)])}", *find_seeds(others)]


def other_runs(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """List the other runs that the numbers of a run tell nothing about."""
    experiment = parameters["experiment"]
    if len(experiment.get("seeds") or ()) < 2:
        return NEVER_MEASURED
    return () if experiment.get("seed_target") else OTHER_TARGET_MODELS


def find_seeds(parameters: Mapping[str, Any]) -> list[str]:
    """List the seeds among the parameters, each with the name of its group."""
    seeds = []
    for group, values in parameters.items():
        if isinstance(values, Mapping):
            seeds += [f"{group.replace('_', ' ')} {values['seed']}"] if "seed" in values else []
            seeds += find_seeds(values)
    return seeds


def describe_terms(summary: pd.DataFrame) -> list[str]:
    """List the terms of each summary number of the run."""
    return [
        f"{_capital(SUMMARIES[metric])}{_of_tasks(rows, summary)} holds {_in_words(terms)}."
        for metric in SUMMARIES
        for terms, rows in summary[summary["metric"] == metric].groupby("terms", sort=False)
        if terms
    ]


def missing_numbers(summary: pd.DataFrame, parameters: Mapping[str, Any]) -> list[str]:
    """List the numbers that are missing or incomplete in this run, and why."""
    # A retain-only model is not compared with itself.
    summary = summary[(summary["method"] != RETAIN_ONLY) | (summary["metric"] != "forget_quality")]
    is_not_compared = summary["reason"] == NO_RETAIN_ONLY_MODEL
    is_missing = is_not_compared[summary["metric"] == "forget_quality"].all()
    sentences = [NO_FORGET_QUALITY] if is_missing else []
    labels = REFERENCE_LABELS | method_labels(parameters)
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
    """Name the tasks of rows, unless these are all tasks that their metrics have."""
    tasks = set(rows["task_id"])
    if tasks == set(summary.loc[summary["metric"].isin(rows["metric"]), "task_id"]):
        return ""
    return f" of task {listed([str(task) for task in sorted(tasks)])}"


def _in_words(text: str) -> str:
    """Replace the names of metrics and splits by their labels."""
    words = SPLITS_IN_A_SENTENCE | {name: metric.label for name, metric in METRICS.items()}
    return re.sub(r"[\w-]+", lambda word: words.get(word[0], word[0]), text)


def _capital(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}"


def describe_paraphrases(questions: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
    """Say for how many truth ratios the true answer is not a paraphrase."""
    asked = questions[questions["row_id"].isin(answers["row_id"])]
    n_without = int(asked["paraphrased_answer"].isna().sum())
    if not n_without:
        return []
    return [
        f"{n_without:,} of {len(asked):,} questions have no paraphrased answer: their truth ratio, "
        "where they have wrong answers, is that of the answer itself."
    ]


def describe_no_membership(membership: pd.DataFrame | None) -> list[str]:
    """Say that nothing was told apart, and why."""
    reasons = [] if membership is None else [f"{_capital(membership['reason'].iloc[0])}."]
    return [" ".join([NO_MEMBERSHIP, *reasons])]


def describe_unknown_tokens(unknown_tokens: pd.DataFrame) -> list[str]:
    """Say which judge cannot read which set, where it is 1 % of the tokens or more."""
    unread = unknown_tokens[unknown_tokens["share"] >= 0.01]
    return [
        f"{JUDGES[row.judge]} does not know {row.share:.0%} of the tokens in the answers of "
        f"{SPLITS_IN_A_SENTENCE[row.split]}, and judges by the others: name one that knows the "
        f"language (judges.{row.judge})."
        for row in unread.itertuples()
    ]
