"""Unlearning of one task: a model is trained to forget its rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from transformers import set_seed

from closer_look.models.adapters import with_adapter
from closer_look.models.language_model import LanguageModel
from closer_look.models.output_head import OutputHead
from closer_look.system.code import code_hash
from closer_look.training.guard import Guard
from closer_look.training.objective import Objective
from closer_look.training.trainer import train

if TYPE_CHECKING:
    from closer_look.parameters.training import MethodParameters, UnlearningParameters
    from closer_look.training.reference_scores import ReferenceScores


def unlearn(
    language_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    reference_scores: ReferenceScores,
    method: MethodParameters,
    parameters: UnlearningParameters,
    checkpoints: Path | None = None,
    description: str = "Unlearning",
) -> tuple[LanguageModel, pd.DataFrame]:
    """Unlearn one task with a method.

    Supported are one process on one device, weights in fp32, and full training or LoRA.

    Args:
        language_model: the model after the previous task, changed in place.
        plan: ``epoch``, ``forget_row_id``, ``retain_row_id``, ``refusal`` in training order.
        questions: the questions table.
        reference_scores: the frozen reference's scores that the losses read.
        method: the two losses and their weights.
        parameters: settings that the methods of a run share.
        checkpoints: folder for checkpoints, which the caller deletes when the model is saved; None
            for no checkpoints.
        description: label of the progress bar.

    Returns:
        The model, with adapters if LoRA is on, and the training log. Its columns are those of
        ``finetune`` and ``forget_loss``, ``retain_loss`` and ``in_model``: whether the returned
        weights include the step. They do not include steps that ``max_retain_loss`` undid.

    Raises:
        InputError: LoRA's target modules match no layer of the model; a loss or a gradient is not
            finite; a single row does not fit into memory.
    """
    parameters = parameters.model_copy(update=method.own)
    objective = Objective(method)
    rows = objective.encode(language_model.tokenizer, plan, questions, reference_scores)
    weights = reference_scores.output_head
    head = OutputHead(language_model.model, weights) if weights else None
    if parameters.lora:
        set_seed(parameters.seed)  # adapters are initialised at random
        language_model = with_adapter(language_model, parameters.lora)
    rows_per_epoch = len(rows) // plan["epoch"].nunique()
    guard = Guard(language_model.model, parameters, rows_per_epoch, description)
    log = train(
        language_model,
        rows,
        collate=objective.collate,
        compute_loss=lambda logits, batch: objective.loss(logits, batch, head),
        parameters=parameters,
        rows_per_epoch=rows_per_epoch,
        epochs=1,  # the plan already holds every epoch, in order
        sampling="sequential",
        checkpoints=checkpoints,
        determined_by=(
            method,
            *weights.values(),
            *map(code_hash, method.named_code.values()),
        ),
        guard=guard,
        description=description,
    )
    last_step = guard.restore()
    return language_model, log.assign(in_model=log["step"] <= last_step)
