"""Fine-tuning of a model on questions and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from closer_look.errors import quote
from closer_look.losses import gradient_descent
from closer_look.models.language_model import LanguageModel, check_precision
from closer_look.models.packing import answer_logits, pack
from closer_look.models.tokens import encode
from closer_look.system.code import code_hash
from closer_look.training.combination import Combination
from closer_look.training.sharding import share_out
from closer_look.training.trainer import train
from closer_look.training.workers import on_workers

if TYPE_CHECKING:
    from closer_look.models.tokens import Batch
    from closer_look.parameters.training import FinetuningParameters


def finetune(
    language_model: LanguageModel,
    questions: Sequence[str],
    answers: Sequence[str],
    parameters: FinetuningParameters,
    checkpoints: Path | None = None,
    description: str = "Fine-tuning",
) -> pd.DataFrame:
    """Fine-tune a model in place on questions and answers.

    The loss is the cross-entropy of the answers' tokens.

    Args:
        language_model: the model, changed in place.
        questions: N questions.
        answers: N answers.
        parameters: optimiser, epochs and batch sizes.
        checkpoints: folder for checkpoints, which the caller deletes when the model is saved; None
            for no checkpoints.
        description: label of the progress bar.

    Returns:
        The training log, a row per step: ``step``, ``epoch``, ``loss`` (nats per token),
        ``learning_rate``, ``gradient_norm`` and ``micro_batch_size``.

    Raises:
        InputError: a loss or a gradient is not finite, a single row does not fit into memory, or no
            device computes in the precision.
    """
    return on_workers(
        _finetune,
        language_model,
        questions,
        answers,
        parameters,
        checkpoints and checkpoints.absolute(),  # workers have a folder of their own
        description,
        parameters=parameters,
        group="finetuning",
        folder=checkpoints,
    )


def _finetune(
    language_model: LanguageModel,
    questions: Sequence[str],
    answers: Sequence[str],
    parameters: FinetuningParameters,
    checkpoints: Path | None,
    description: str,
    most_rows: int | None = None,
) -> pd.DataFrame:
    """Fine-tune in this process, alone or with others; return the log."""
    check_precision(parameters.precision, "finetuning")
    encoded = encode(language_model.tokenizer, questions, answers)
    rows = [  # the sampler groups by input_ids
        {"input_ids": row.prompt + row.answer, "row": row, "name": quote(question)}
        for question, row in zip(questions, encoded, strict=True)
    ]
    share_out(language_model.model, parameters, rows)
    return train(
        language_model,
        rows,
        collate=_collate,
        compute_losses=lambda model, batch: {
            "loss": batch["share"] * gradient_descent(answer_logits(model, batch), batch["labels"])
        },
        combination=Combination({"loss": 1.0}),
        parameters=parameters,
        rows_per_epoch=len(rows),
        epochs=parameters.epochs,
        sampling="group_by_length",
        checkpoints=checkpoints,
        determined_by=(code_hash(_finetune),),
        description=description,
        most_rows=most_rows,
    )


def _collate(rows: Sequence[Mapping[str, object]], step: Sequence[Mapping[str, object]]) -> Batch:
    """Pack rows; their share of the step is that of its answers' tokens."""
    n_tokens, of_step = (sum(len(one["row"].answer) for one in part) for part in (rows, step))
    packed = pack([one["row"] for one in rows])
    return packed | {"names": [one["name"] for one in rows], "share": n_tokens / of_step}
