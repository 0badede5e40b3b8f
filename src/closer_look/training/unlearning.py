"""Unlearning: make a model forget the rows of one task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from transformers import set_seed

from closer_look.models.adapters import with_adapter
from closer_look.models.language_model import LanguageModel
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
    """Unlearn one task; the model given is changed in place.

    Args:
        language_model: the model after the previous task.
        plan: ``epoch``, ``forget_row_id``, ``retain_row_id``, ``refusal`` in training order.
        questions: the questions table.
        reference_scores: what the method's losses need of the frozen reference.
        method: which losses.
        parameters: what the methods of a run share.
        checkpoints: folder of this training's checkpoints, to be removed when its result is safe;
            without it there are none.
        description: what the progress bar says.

    Returns:
        The model, with adapters where LoRA is asked for, and the training log, as ``finetune``
        gives it, with ``forget_loss``, ``retain_loss`` and ``in_model``, whether the model given
        back has seen the step: not so where it went back from ``max_retain_loss``.

    Raises:
        InputError: LoRA's target modules match no layer of the model; a loss or a gradient is not
            finite; a single row does not fit into memory.
    """
    parameters = parameters.model_copy(update=method.own)
    objective = Objective(method)
    rows = objective.encode(language_model.tokenizer, plan, questions, reference_scores)
    head = reference_scores.output_head
    if head is not None:
        head = head.to(language_model.model.device)
    if parameters.lora:
        set_seed(parameters.seed)  # adapters start at random
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
            head,
            *map(code_hash, method.named_code.values()),
        ),
        guard=guard,
        description=description,
    )
    last_step = guard.restore()
    return language_model, log.assign(in_model=log["step"] <= last_step)
