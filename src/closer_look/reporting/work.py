"""How much a run is: tokens, arithmetic, hours and the space on the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from closer_look.data.questions import given_answers, rows_to_evaluate
from closer_look.models.packing import pack
from closer_look.models.tokens import encode
from closer_look.system.hardware import Devices, known_peak, measured_peak
from closer_look.training import needs
from closer_look.training.followed_step import bytes_of

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from closer_look.parameters.evaluation import GenerationParameters, ScoringParameters
    from closer_look.parameters.experiment import Experiment, ForgetSetParameters
    from closer_look.parameters.methods import MethodParameters
    from closer_look.parameters.models import BaseModelParameters, PromptParameters
    from closer_look.parameters.plan import PlanParameters
    from closer_look.parameters.training import (
        FinetuningParameters,
        UnlearningParameters,
    )
    from closer_look.training.needs import Needs

FINETUNING = "Fine-tuning"
SCORE_BYTES = 9  # of a token in the tables: a number, and whether it is the first choice


class Shape(NamedTuple):
    """The parameters that say how much a run is."""

    experiment: Experiment
    base_model: BaseModelParameters
    prompt: PromptParameters
    forget_set: ForgetSetParameters
    finetuning: FinetuningParameters
    unlearning: UnlearningParameters
    scoring: ScoringParameters
    generation: GenerationParameters
    methods: Mapping[str, MethodParameters]


def work_of(
    shape: Shape,
    found: Mapping[str, Needs],
    build: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    questions: pd.DataFrame,
) -> dict[str, dict[str, Any]]:
    """Count the tokens of the run, the arithmetic on them, and that of each device."""
    evaluated = rows_to_evaluate(
        questions, shape.forget_set.evaluation_rows, shape.forget_set.evaluated_splits
    )
    answers = given_answers(evaluated)
    encoded = encode(tokenizer, list(answers["question"]), list(answers["text"]))
    answers = answers.assign(row=encoded)
    by_row = answers.groupby(["split", "row_id"], sort=False)["row"]
    scored = by_row.agg(lambda rows: sum(pack(list(rows))["own_lengths"]))
    generated = by_row.agg(lambda rows: len(rows.iloc[0]))  # the gold answer stands first
    task_of = evaluated.set_index(["split", "row_id"])["task_id"]
    n_tasks, n_seeds = shape.experiment.n_tasks, len(shape.experiment.each_seed)
    n_chains = len(shape.methods) * n_seeds
    # Models that are measured once, on the rows of all tasks.
    once = 1 + bool(shape.experiment.retain_only not in (None, "scores"))
    once += len(shape.experiment.models or ())
    times = [(task, n_chains) for task in range(1, n_tasks + 1)] + [(n_tasks, once)]
    n_scored, n_generated = (
        sum(n * int(tokens[task_of <= task].sum()) for task, n in times)
        for tokens in (scored, generated)
    )
    n_scored += n_seeds * sum(one.reference_tokens for one in found.values())
    n_generated += n_seeds * sum(
        method.alternates.per_row * _forgotten(questions, tokenizer)
        for method in shape.methods.values()
        if method.alternates
    )
    per_token = needs.forward_flops(build, encoded)
    retain_only = shape.experiment.retain_only == "finetuned"
    n_finetuned = (n_seeds if shape.experiment.seed_target else 1) + retain_only
    finetunings = [one for of, one in found.items() if of == FINETUNING] * n_finetuned
    unlearnings = [one for of, one in found.items() if of != FINETUNING] * n_seeds
    finetuned, unlearned = (sum(one.flops for one in of) for of in (finetunings, unlearnings))
    score, generate = int(n_scored * per_token), int(n_generated * per_token)
    return {
        "train": {
            "tokens": sum(one.tokens for one in [*finetunings, *unlearnings]),
            "flops": finetuned + unlearned,
            "of_device": finetuned // shape.finetuning.workers
            + unlearned // shape.unlearning.workers,
        },
        "score": {
            "tokens": n_scored,
            "flops": score,
            "of_device": score // shape.scoring.workers,
        },
        "generate": {
            "tokens": n_generated,
            "flops": generate,
            "of_device": generate // shape.generation.workers,
        },
    }


def _forgotten(questions: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> int:
    rows = questions[questions["task_id"] > 0]
    return sum(map(len, encode(tokenizer, list(rows["question"]), list(rows["answer"]))))


def speed_of(
    shape: Shape, plan: PlanParameters, devices: Devices
) -> tuple[float | None, list[str]]:
    """Return a device's floating-point operations a second, and how they come about or why not."""
    precision = shape.unlearning.precision
    if plan.peak_tflops:
        peak = plan.peak_tflops * 1e12
    elif devices.is_cpu:
        peak = measured_peak()
    else:
        peak = known_peak(devices.name, precision)
    if peak is None:
        return None, ["Hours are not known: give plan.peak_tflops, from the device's data sheet."]
    said = (
        f"Hours are those of the arithmetic, at {plan.efficiency:.0%} of {peak / 1e12:,.3g} "
        f"TFLOP/s of a device in {precision}, with the workers of each stage; generation "
        f"waits for memory, and takes longer."
    )
    return peak * plan.efficiency, [said]


def disk_of(
    shape: Shape,
    found: Mapping[str, Needs],
    work: Mapping[str, Mapping[str, Any]],
    build: Callable[[], PreTrainedModel],
) -> dict[str, int]:
    """Count the bytes that a run leaves on the disk, and those of a checkpoint."""
    n_seeds = len(shape.experiment.each_seed)
    n_models = shape.experiment.n_tasks * n_seeds  # of a method
    whole = bytes_of(build().parameters())
    models = sum(one.saved * n_models for label, one in found.items() if label != FINETUNING)
    models += whole * n_models * sum(bool(one.instruction) for one in shape.methods.values())
    if shape.experiment.finetuning:  # a pretrained model stays where it is
        from_scratch = shape.base_model.small_llama is not None
        n_targets = n_seeds if shape.experiment.seed_target else 1
        models += whole * n_targets * (1 + from_scratch)
        models += whole * (shape.experiment.retain_only == "finetuned")
    return {
        "models": models,
        "reference": n_seeds * sum(one.stored for one in found.values()),
        "checkpoint": max((one.checkpoint for one in found.values()), default=0),
        "tables": SCORE_BYTES * (work["score"]["tokens"] + work["generate"]["tokens"]),
    }
