"""What a training needs of a device: a step of it is followed without numbers (``tracing``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch

from closer_look.losses import gradient_descent
from closer_look.models.adapters import with_adapter
from closer_look.models.language_model import LanguageModel, saved_bytes
from closer_look.models.output_head import OutputHead
from closer_look.models.packing import answer_logits, pack
from closer_look.models.tokens import Tokens
from closer_look.parameters.methods import settings_of
from closer_look.system.tracing import Trace, traced
from closer_look.training.combination import Combination
from closer_look.training.followed_step import (
    Hardware,
    bytes_of,
    follow,
    prepared,
    rows_in_a_pass,
)
from closer_look.training.objective import ANSWER, SCORED, Objective, texts_of
from closer_look.training.reference_scores import ReferenceScores
from closer_look.training.trainer import MOMENTS
from closer_look.training.unlearning import trainable_only

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from closer_look.parameters.methods import MethodParameters
    from closer_look.parameters.training import OptimiserParameters, UnlearningParameters

TRACED = 8  # rows of the pass by which the arithmetic of scoring is known


class Needs(NamedTuple):
    """Bytes of device memory at the peak of a training, and its work."""

    weights: int
    gradients: int
    """All copies of them: some methods keep those of their two losses apart."""
    moments: int
    """Of the optimiser."""
    activations: int
    """What the backward pass needs, and all that lives for a moment."""
    reference: int
    """The frozen reference's output head and hidden states, and a task vector's start."""
    kept: int
    """The guard's copy of the best weights, in CPU memory."""
    saved: int
    """Of the trained model on the disk."""
    checkpoint: int
    """On the disk, while the training goes on: with the copies that go to workers and back."""
    stored: int
    """The reference's hidden states and head on the disk, of all tasks."""
    tokens: int
    """Through the model in all tasks and epochs; rows share their beginnings."""
    flops: int
    """For these tokens, forward and backward."""
    reference_tokens: int
    """That the frozen reference scores in all tasks."""

    @property
    def device(self) -> int:
        """Bytes at the peak, on a GPU."""
        return sum((self.weights, self.gradients, self.moments, self.activations, self.reference))


Build = Callable[[], "PreTrainedModel"]
"""Makes a new model on the device "meta"."""


def of_method(
    build: Build,
    tokenizer: PreTrainedTokenizerBase,
    method: MethodParameters,
    unlearning: UnlearningParameters,
    plans: Sequence[pd.DataFrame],
    questions: pd.DataFrame,
    hardware: Hardware,
) -> Needs:
    """Tell what the training of a method needs, on the heaviest step of its tasks.

    Args:
        build: makes the model from which it starts.
        tokenizer: the model's.
        method: the method, with losses.
        unlearning: settings that the methods of a run share.
        plans: of each task; see ``objective.texts_of``.
        questions: the questions table.
        hardware: where it runs.

    Raises:
        InputError: the method cannot work on the model.
    """
    settings = settings_of(method, unlearning)
    objective = Objective(method, settings.seed)
    tables = [plan[plan["epoch"] <= settings.epochs] for plan in plans]
    tokens = [_tokens(objective, tokenizer, table, questions) for table in tables]
    size = rows_in_a_pass(settings, hardware)
    n_tokens = sum(
        _packed(rows[: len(rows) // table["epoch"].nunique()], size) * table["epoch"].nunique()
        for rows, table in zip(tokens, tables, strict=True)
    )
    _, task, start = max(
        (_length(rows[start : start + size]), number, start)
        for number, rows in enumerate(tokens)
        for start in range(0, len(rows), size)
    )
    heaviest = tables[task].iloc[start : start + size]

    language_model = LanguageModel(prepared(build()), tokenizer)
    head = OutputHead(language_model.model) if method.reads("reference_logits") else None
    if settings.lora:
        with torch.device("meta"):
            language_model = with_adapter(language_model, settings.lora)
    model = language_model.model
    weights, saved = bytes_of(model.parameters()), saved_bytes(model)
    scores = _stand_ins(objective, tokenizer, heaviest, questions, model)
    batch = objective.collate(objective.encode(tokenizer, heaviest, questions, scores))
    with trainable_only(model, method.trainable):
        trained = bytes_of(p for p in model.parameters() if p.requires_grad)
        step = follow(
            model,
            lambda: objective.losses(model, batch, head),
            Combination.of(method, settings, len(tokens[0])),
            settings,
            hardware,
            reads_logits=not objective.layer_blocks,
            frozen=list(head.model.parameters()) if head else (),
        )
    n_packed = _packed(tokens[task][start : start + size], size)
    head_bytes = bytes_of(head.model.parameters()) if head else 0
    states = [
        _states(objective, rows, table, model) for rows, table in zip(tokens, tables, strict=True)
    ]
    held = head_bytes
    if hardware.on_cpu:  # beside the model: what was read of the head, and the states of all rows
        held += head_bytes + max(states)
    moments = MOMENTS[settings.optimiser]
    return Needs(
        weights=weights // hardware.parts,
        gradients=step.gradients // hardware.parts,
        moments=moments * step.trained // hardware.parts,
        activations=step.activations,
        reference=held + (trained // hardware.parts if method.task_vector_scale else 0),
        kept=trained if settings.max_retain_loss else 0,
        saved=saved,
        checkpoint=_checkpoint(settings, weights, saved, trained, moments),
        stored=2 * sum(states) + head_bytes * len(plans),  # of the run, and in the cache
        tokens=n_tokens,
        flops=step.flops * n_tokens // n_packed,
        reference_tokens=sum(_scored(objective, rows) for rows in tokens),
    )


def of_finetuning(
    build: Build,
    rows: Sequence[Tokens],
    settings: OptimiserParameters,
    hardware: Hardware,
) -> Needs:
    """Tell what fine-tuning needs, on the heaviest step that its rows can make.

    Args:
        build: makes the base model.
        rows: of one epoch.
        settings: batch sizes and the like.
        hardware: where it runs.
    """
    size = rows_in_a_pass(settings, hardware)
    heaviest = sorted(rows, key=len)[-size:]
    batch = pack(heaviest)
    model = prepared(build())
    saved = bytes_of(model.parameters())
    step = follow(
        model,
        lambda: {"loss": gradient_descent(answer_logits(model, batch), batch["labels"])},
        Combination({"loss": 1.0}),
        settings,
        hardware,
    )
    ordered = [[row] for row in sorted(rows, key=len)]  # the sampler groups them by length
    n_tokens = _packed(ordered, size) * settings.epochs
    return Needs(
        weights=saved // hardware.parts,
        gradients=step.gradients // hardware.parts,
        moments=MOMENTS["adamw"] * step.trained // hardware.parts,
        activations=step.activations,
        reference=0,
        kept=0,
        saved=saved,
        checkpoint=_checkpoint(settings, saved, saved, saved, MOMENTS["adamw"]),
        stored=0,
        tokens=n_tokens,
        flops=step.flops * n_tokens // sum(batch["own_lengths"]),
        reference_tokens=0,
    )


def forward_flops(build: Build, rows: Sequence[Tokens]) -> float:
    """Count the floating-point operations of scoring, for each token."""
    batch = pack(rows[:TRACED])
    model = prepared(build())
    trace = Trace()
    with torch.no_grad(), traced(trace):
        answer_logits(model, batch)
    return trace.flops / sum(batch["own_lengths"])


def _tokens(
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
) -> list[list[Tokens]]:
    """Tokenise, for each row of a plan, all texts that the losses read."""
    columns: list[list[Tokens]] = []
    for term in objective.terms:
        asked, texts = texts_of(term.side, plan, questions)
        columns += term.encode(tokenizer, asked, texts).values()
    return [list(row) for row in zip(*columns, strict=True)]


def _length(rows: Sequence[Sequence[Tokens]]) -> int:
    return sum(len(text) for row in rows for text in row)


def _packed(rows: Sequence[Sequence[Tokens]], size: int) -> int:
    """Count the tokens of rows in passes of that many."""
    starts = range(0, len(rows), size)
    passes = [[text for row in rows[i : i + size] for text in row] for i in starts]
    return sum(sum(pack(one)["own_lengths"]) for one in passes)


def _stand_ins(
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    model: PreTrainedModel,
) -> ReferenceScores:
    """Make reference scores without numbers, in the shapes that the losses read."""
    nll, states = [], {}
    for term in objective.terms:
        ids = plan[f"{term.side}_row_id"]
        asked, texts = texts_of(term.side, plan, questions)
        for variant in set(SCORED) & texts.keys():
            nll += [(row_id, text, 1.0) for row_id, text in zip(ids, texts[variant], strict=True)]
        if {"reference_logits", "reference_activations"} & term.inputs:
            rows = term.encode(tokenizer, asked, texts)[ANSWER]
            width = _width(model)
            states |= {
                row_id: torch.empty(len(row.answer), width, device="meta")
                for row_id, row in zip(ids, rows, strict=True)
            }
    table = pd.DataFrame(nll, columns=["row_id", "text", "nll"])
    return ReferenceScores(table.drop_duplicates(["row_id", "text"]), states, {}, states)


def _states(
    objective: Objective,
    tokens: Sequence[Sequence[Tokens]],
    plan: pd.DataFrame,
    model: PreTrainedModel,
) -> int:
    """Count the bytes of a task's hidden states of the reference: fp32, at its answers."""
    size, place = 0, 0
    for term in objective.terms:
        if {"reference_logits", "reference_activations"} & term.inputs:
            answers = dict(zip(plan[f"{term.side}_row_id"], tokens, strict=True))
            size += sum(len(row[place].answer) for row in answers.values())
        place += len(term.variants)
    return 4 * size * _width(model)


def _scored(objective: Objective, tokens: Sequence[Sequence[Tokens]]) -> int:
    """Count the tokens of a task's texts whose scores under the reference are read."""
    found: dict[int, Tokens] = {}
    places = [(term, variant) for term in objective.terms for variant in term.variants]
    for place, (term, variant) in enumerate(places):
        states = variant == ANSWER and {"reference_logits", "reference_activations"} & term.inputs
        if states or f"reference_{variant}nll" in term.inputs:
            found |= {id(row[place]): row[place] for row in tokens}  # equal pairs are one object
    return sum(map(len, found.values()))


def _width(model: PreTrainedModel) -> int:
    return model.config.get_text_config().hidden_size


def _checkpoint(
    settings: OptimiserParameters, weights: int, saved: int, trained: int, moments: int
) -> int:
    handed_over = weights + trained if settings.workers > 1 else 0
    return handed_over + (saved + (moments + 1) * trained if settings.checkpoint_minutes else 0)
