"""Unlearning of one task: a model is trained to forget its rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from transformers import TrainerCallback, set_seed

from closer_look.errors import InputError
from closer_look.models.adapters import with_adapter
from closer_look.models.language_model import LanguageModel
from closer_look.models.output_head import OutputHead
from closer_look.parameters.methods import settings_of
from closer_look.system.code import code_hash
from closer_look.training.combination import Combination
from closer_look.training.guard import Guard
from closer_look.training.objective import Objective
from closer_look.training.processes import device, n_processes
from closer_look.training.sharding import share_out
from closer_look.training.task_vector import negated
from closer_look.training.trainer import train
from closer_look.training.workers import on_workers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from closer_look.parameters.methods import MethodParameters
    from closer_look.parameters.training import UnlearningParameters
    from closer_look.training.reference_scores import ReferenceScores


AfterEpoch = Callable[[LanguageModel, int], None]


def unlearn(
    language_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    reference_scores: ReferenceScores,
    method: MethodParameters,
    parameters: UnlearningParameters,
    checkpoints: Path | None = None,
    description: str = "Unlearning",
    after_epoch: AfterEpoch | None = None,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Unlearn one task with a method that trains.

    Weights are kept in fp32; all are trained, or LoRA adapters. With ``parameters.workers``,
    several processes share the work (see ``workers``).

    Args:
        language_model: the model after the previous task, changed in place.
        plan: ``epoch``, ``forget_row_id``, ``retain_row_id``, ``refusal`` in training order, and
            ``alternate`` for losses that read alternate answers.
        questions: the questions table.
        reference_scores: the frozen reference's scores that the losses read.
        method: the losses, their weights, and what else the method asks for.
        parameters: settings that the methods of a run share.
        checkpoints: folder for checkpoints, which the caller deletes when the model is saved; None
            for no checkpoints.
        description: label of the progress bar.
        after_epoch: called with the model and the number of the epoch after each but the last; it
            may look at the model, and end the training with an error. For one process alone.

    Returns:
        The model, with adapters if LoRA is on, and the training log. Its columns are those of
        ``finetune`` and ``forget_loss``, ``retain_loss`` and ``in_model``: whether the returned
        weights include the step. They do not include steps that ``max_retain_loss`` undid.

    Raises:
        InputError: LoRA's target modules match no layer of the model, or a pattern no weight; a
            loss or a gradient is not finite; a single row does not fit into memory.
    """
    settings = settings_of(method, parameters)
    if settings.lora:
        set_seed(settings.seed)  # adapters are initialised at random
        language_model = with_adapter(language_model, settings.lora)
    log = on_workers(
        _unlearn,
        language_model,
        plan[plan["epoch"] <= settings.epochs],
        questions,
        reference_scores,
        method,
        settings,
        checkpoints and checkpoints.absolute(),  # workers have a folder of their own
        description,
        after_epoch,
        parameters=settings,
        group="unlearning",
        folder=checkpoints,
    )
    return language_model, log


def _unlearn(
    language_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    reference_scores: ReferenceScores,
    method: MethodParameters,
    settings: UnlearningParameters,
    checkpoints: Path | None,
    description: str,
    after_epoch: AfterEpoch | None,
    most_rows: int | None = None,
) -> pd.DataFrame:
    """Unlearn in this process, alone or with others; return the log."""
    objective = Objective(method, settings.seed)
    rows = objective.encode(language_model.tokenizer, plan, questions, reference_scores)
    model = language_model.model
    weights = reference_scores.output_head
    # Each process has the whole head: every position of its rows needs all of it.
    head = OutputHead(model, weights) if weights else None
    share_out(model, settings, rows)
    if head and n_processes() > 1:
        head.model.to(device())
    rows_per_epoch = len(rows) // plan["epoch"].nunique()
    with (
        trainable_only(model, method.trainable),
        negated(model, method.task_vector_scale) if method.task_vector_scale else nullcontext(),
    ):
        guard = Guard(model, settings, rows_per_epoch, description)
        log = train(
            language_model,
            rows,
            collate=objective.collate,
            compute_losses=lambda model, batch: objective.losses(model, batch, head),
            combination=Combination.of(method, settings, rows_per_epoch),
            parameters=settings,
            rows_per_epoch=rows_per_epoch,
            epochs=1,  # the plan already holds every epoch, in order
            sampling="sequential",
            checkpoints=checkpoints,
            optimiser=settings.optimiser,
            determined_by=(
                code_hash(_unlearn),
                method,
                *weights.values(),
                *map(code_hash, method.named_code.values()),
            ),
            guard=guard,
            callbacks=[_AfterEpochs(language_model, guard.epoch_ends, after_epoch)]
            if after_epoch
            else (),
            description=description,
            reads_logits=not objective.layer_blocks,
            most_rows=most_rows,
        )
        last_step = guard.restore()
    return log.assign(in_model=log["step"] <= last_step)


class _AfterEpochs(TrainerCallback):
    def __init__(
        self, language_model: LanguageModel, ends: Mapping[int, int], call: AfterEpoch
    ) -> None:
        self.language_model, self.ends, self.call = language_model, ends, call

    def on_step_end(self, args, state, control, **kwargs):
        epoch = self.ends.get(state.global_step)
        if epoch and state.global_step < state.max_steps:
            self.call(self.language_model, epoch)


@contextmanager
def trainable_only(model: PreTrainedModel, patterns: Sequence[str] | None) -> Iterator[None]:
    """Train no other weights inside the block than those whose full names match a pattern.

    Raises:
        InputError: a pattern matches no weight that can be trained.
    """
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    if patterns is None:
        yield
        return
    for pattern in patterns:
        if not any(re.fullmatch(pattern, name) for name in trained):
            raise InputError(
                f"trainable: {pattern!r} matches no weight of {type(model).__name__}, such as "
                f"{next(iter(trained))}; it must match the full name"
            )
    frozen = [one for name, one in trained.items() if not _matches(patterns, name)]
    for one in frozen:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in frozen:
            one.requires_grad_(True)


def _matches(patterns: Sequence[str], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)
