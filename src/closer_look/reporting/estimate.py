"""An estimate of what a run will take, made before anything of it is downloaded or trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from closer_look.data.planning import plan_of_task
from closer_look.models.blueprint import CHARACTERS, blueprint, rough_tokenizer
from closer_look.models.model_folder import local_folder
from closer_look.models.prompts import set_prompt
from closer_look.models.small_llama import texts_to_learn
from closer_look.models.tokens import encode
from closer_look.parameters.methods import faults_of, settings_of
from closer_look.reporting.advice import Trial, advise, total, verdict
from closer_look.reporting.inspection import base_tokenizer
from closer_look.reporting.work import FINETUNING, Shape, disk_of, speed_of, work_of
from closer_look.system.hardware import Devices, devices_here
from closer_look.system.progress import progress_bar
from closer_look.training import needs
from closer_look.training.fit import least_bytes, too_large, whole_too_large
from closer_look.training.followed_step import Hardware

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from closer_look.parameters.methods import MethodParameters
    from closer_look.parameters.plan import PlanParameters
    from closer_look.parameters.training import OptimiserParameters
    from closer_look.training.needs import Needs

Settings = TypeVar("Settings", bound="OptimiserParameters")


class Training(NamedTuple):
    """A training of the run, to be planned."""

    settings: OptimiserParameters
    trial: Trial
    method: MethodParameters | None = None
    """None for fine-tuning."""


def estimate(
    shape: Shape,
    plan: PlanParameters,
    questions: pd.DataFrame,
    unknown_questions: pd.DataFrame,
    refusals: Sequence[str],
) -> dict[str, Any]:
    """Estimate memory, disk and time of a run.

    Args:
        shape: parameters of the run.
        plan: the hardware.
        questions: the questions table.
        unknown_questions: rows of later tasks, of which fine-tuning declines some.
        refusals: refusal sentences.

    Returns:
        Plain values for JSON: ``model``, ``hardware``, ``memory`` (a mapping per training, in
        bytes), ``disk`` (bytes), ``work`` (tokens, flops and hours per kind), ``advice`` and
        ``notes``, which are sentences.

    Raises:
        InputError: no model can be built of the configuration, or a method cannot work on it.
    """
    tokenizer, notes = _tokenizer(shape, questions, refusals)
    build = partial(blueprint, shape.base_model, len(tokenizer))
    devices = _devices(plan)
    trainings = _trainings(shape, build, tokenizer, questions, unknown_questions, refusals, devices)
    found = {}
    with progress_bar(len(trainings), "Planning", "training") as progress:
        for label, training in trainings.items():
            found[label] = training.trial({})
            progress.update()
    work = work_of(shape, found, build, tokenizer, questions)
    speed, reason = speed_of(shape, plan, devices)
    for kind in work.values():
        kind["hours"] = None if speed is None else kind["of_device"] / speed / 3600
    return {
        "model": _describe(shape, build),
        "hardware": devices._asdict() | {"flops_per_second": speed},
        "memory": {
            label: of_one._asdict()
            | {"total": total(of_one, devices), "verdict": verdict(of_one, devices)}
            for label, of_one in found.items()
        },
        "disk": disk_of(shape, found, work, build),
        "work": work,
        "advice": [*_advice(trainings, found, build(), devices)],
        "notes": [*notes, *reason],
    }


def _tokenizer(
    shape: Shape, questions: pd.DataFrame, refusals: Sequence[str]
) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """Load the run's tokenizer, as far as it is on this machine, and say if it is not."""
    base = shape.base_model
    folder = base.pretrained and local_folder(base.pretrained)
    if base.small_llama or (folder and _has_tokenizer(folder)):
        base = base.model_copy(update={"pretrained": folder})
        return base_tokenizer(base, shape.prompt, questions, refusals), []
    tokenizer = rough_tokenizer(texts_to_learn(questions, refusals))
    style = "plain" if base.prompt == "chat_template" else base.prompt
    set_prompt(tokenizer, style, shape.prompt)
    return tokenizer, [
        f"The tokenizer of {base.pretrained} is not on this machine: tokens are counted as "
        f"{CHARACTERS} characters each, with the prompt '{style}'."
    ]


def _has_tokenizer(folder: str) -> bool:
    return any(Path(folder).glob("tokenizer*")) or any(Path(folder).glob("vocab*"))


def _devices(plan: PlanParameters) -> Devices:
    if plan.device_memory_gb is None:
        here = devices_here()
        return here._replace(n_devices=plan.devices or here.n_devices)
    memory = int(plan.device_memory_gb * 1e9)
    return Devices("as given", False, plan.devices or 1, memory)


def _advice(
    trainings: Mapping[str, Training],
    found: Mapping[str, Needs],
    model: PreTrainedModel,
    devices: Devices,
) -> Iterator[str]:
    """Say why ``kedro run`` would refuse a stage, and with what its largest training fits."""
    is_refused = False
    for group in ("finetuning", "unlearning"):
        of_group = {
            label: training
            for label, training in trainings.items()
            if (training.method is None) == (group == "finetuning")
        }
        least = {
            label: least_bytes(model, training.settings, training.method)
            for label, training in of_group.items()
        }
        if refusal := too_large(least, devices.memory, group):
            is_refused = True
            yield refusal
        largest = max(of_group, key=lambda one: total(found[one], devices), default=None)
        if largest and verdict(found[largest], devices) != "fits":
            settings, trial, _ = of_group[largest]
            yield advise(group, largest, found[largest], settings, trial, devices)
    if not is_refused and (refusal := whole_too_large(model, devices.memory)):
        yield refusal


def _trainings(
    shape: Shape,
    build: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    questions: pd.DataFrame,
    unknown_questions: pd.DataFrame,
    refusals: Sequence[str],
    devices: Devices,
) -> dict[str, Training]:
    """Prepare every training of the run, by its label."""

    def changed(settings: Settings, changes: dict[str, Any]) -> tuple[Settings, Hardware]:
        settings = settings.model_copy(update=changes)
        return settings, Hardware(devices.is_cpu, settings.workers, settings.sharding == "full")

    trainings: dict[str, Training] = {}
    if shape.experiment.finetuning:
        own = shape.finetuning
        learned = questions[questions["split"].isin(own.splits)] if own.splits else questions
        asked = [*learned["question"], *unknown_questions["question"].head(own.declined_questions)]
        answers = [*learned[own.answers].fillna(learned["answer"])]
        declined = list(refusals) * (1 + len(asked) // len(refusals))
        rows = encode(tokenizer, asked, [*answers, *declined][: len(asked)])

        def finetuned(changes: dict[str, Any]) -> Needs:
            return needs.of_finetuning(build, rows, *changed(own, changes))

        trainings[FINETUNING] = Training(own, finetuned)

    def trial_of(method: MethodParameters) -> Trial:
        plans = _plans(shape, method, questions, refusals)

        def unlearned(changes: dict[str, Any]) -> Needs:
            settings, hardware = changed(shape.unlearning, changes)
            return needs.of_method(build, tokenizer, method, settings, plans, questions, hardware)

        return unlearned

    for name, method in shape.methods.items():
        if method.forget:
            with faults_of(name):
                own = settings_of(method, shape.unlearning)
            trainings[method.label] = Training(own, trial_of(method), method)
    return trainings


def _plans(
    shape: Shape, method: MethodParameters, questions: pd.DataFrame, refusals: Sequence[str]
) -> list[pd.DataFrame]:
    """Draw the plans of all tasks; an alternate is taken to be as long as the true answer."""
    answers = questions.set_index("row_id")["answer"]
    plans = [
        plan_of_task(
            questions,
            refusals,
            task,
            epochs=method.epochs or shape.unlearning.epochs,
            pairing=shape.forget_set.pairing,
            seed=shape.forget_set.seed,
        )
        for task in range(1, shape.experiment.n_tasks + 1)
    ]
    if method.alternates is None:
        return plans
    return [one.assign(alternate=answers.loc[one["forget_row_id"]].to_numpy()) for one in plans]


def _describe(shape: Shape, build: Callable[[], PreTrainedModel]) -> dict[str, Any]:
    model = build()
    return {
        "kind": type(model).__name__,
        "name": shape.base_model.pretrained,
        "weights": sum(one.numel() for one in model.parameters()),
        "precision": shape.unlearning.precision,
    }
