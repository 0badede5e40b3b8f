"""Fine-tuning and unlearning on the Hugging Face Trainer."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from closer_look.losses import FORGET, RETAIN
from closer_look.losses.retain import gradient_descent
from closer_look.tokens import Tokens, answer_batch, answer_logits, encode

if TYPE_CHECKING:
    from torch import Tensor

    from closer_look.language_model import LanguageModel
    from closer_look.parameters import (
        FinetuningParameters,
        LossTerm,
        MethodParameters,
        OptimiserParameters,
        UnlearningParameters,
    )


def finetune(
    language_model: LanguageModel,
    questions: Sequence[str],
    answers: Sequence[str],
    parameters: FinetuningParameters,
    description: str = "Fine-tuning",
) -> pd.DataFrame:
    """Teach the model to answer the questions; the model is changed in place.

    Returns:
        The training log: one row a step with ``step``, ``epoch``, ``loss`` (nats a token),
        ``learning_rate`` and ``gradient_norm``.
    """
    rows = [
        {"input_ids": row.prompt + row.answer, "row": row}  # the sampler groups by input_ids
        for row in encode(language_model.tokenizer, questions, answers)
    ]
    return _train(
        language_model,
        rows,
        collate=lambda chosen: answer_batch([item["row"] for item in chosen]),
        compute_loss=lambda logits, batch: {"loss": gradient_descent(logits, batch["labels"])},
        parameters=parameters,
        rows_per_epoch=len(rows),
        epochs=parameters.epochs,
        sampling="group_by_length",
        description=description,
    )


def needed_inputs(term: LossTerm, losses: Mapping[str, Callable[..., Tensor]]) -> set[str]:
    """Names of the tensors that a loss takes, read from its signature."""
    parameters = inspect.signature(losses[term.loss]).parameters.values()
    return {p.name for p in parameters if p.default is inspect.Parameter.empty}


def unlearn(
    language_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    reference_scores: pd.DataFrame,
    method: MethodParameters,
    parameters: UnlearningParameters,
    description: str = "Unlearning",
) -> pd.DataFrame:
    """Unlearn one task; the model is changed in place.

    Args:
        language_model: the model after the previous task.
        plan: ``epoch``, ``forget_row_id``, ``retain_row_id``, ``refusal`` in training order.
        questions: the questions table.
        reference_scores: ``row_id``, ``kind`` ("answer" or "refusal"), ``text``, ``nll`` of the
            frozen reference; empty where the method's losses need none.
        method: which losses.
        parameters: what the methods of a run share.
        description: what the progress bar says.

    Returns:
        The training log, as ``finetune`` gives it, with ``forget_loss`` and ``retain_loss``.
    """
    if method.learning_rate is not None:
        parameters = parameters.model_copy(update={"learning_rate": method.learning_rate})
    objective = Objective(method)
    rows = objective.encode(language_model, plan, questions, reference_scores)
    return _train(
        language_model,
        rows,
        collate=objective.collate,
        compute_loss=objective.compute_loss,
        parameters=parameters,
        rows_per_epoch=len(rows) // plan["epoch"].nunique(),
        epochs=1,  # the plan already holds every epoch, in order
        sampling="sequential",
        description=description,
    )


class Objective:
    """The weighted pair of losses of a method: what it reads, and its value on a batch.

    A batch holds one block of rows for each text variant that the losses take: the forget answers,
    the refusals in their place, and the same for the retain rows. All go through the model in one
    forward pass.
    """

    def __init__(self, method: MethodParameters) -> None:
        self.forget, self.retain = method.forget, method.retain
        self.forget_inputs = needed_inputs(method.forget, FORGET)
        self.retain_inputs = needed_inputs(method.retain, RETAIN)
        self.blocks = [
            block
            for block, used in {
                "forget": "labels" in self.forget_inputs,
                "forget_idk": "idk_labels" in self.forget_inputs,
                "retain": "labels" in self.retain_inputs,
                "retain_idk": "idk_labels" in self.retain_inputs,
            }.items()
            if used
        ]

    def encode(
        self,
        language_model: LanguageModel,
        plan: pd.DataFrame,
        questions: pd.DataFrame,
        reference_scores: pd.DataFrame,
    ) -> list[dict[str, Tokens | float]]:
        """One item a row of the plan: its blocks' tokens and its reference scores."""
        by_id = questions.set_index("row_id")
        texts = {}
        for side in ("forget", "retain"):
            chosen = by_id.loc[plan[f"{side}_row_id"]]
            texts[side] = (chosen["question"], chosen["answer"])
            texts[f"{side}_idk"] = (chosen["question"], plan["refusal"])
        columns: dict[str, Sequence[Tokens | float]] = {
            block: encode(language_model.tokenizer, *map(list, texts[block]))
            for block in self.blocks
        }
        nll = reference_scores.set_index(["row_id", "text"])["nll"]
        for name, block in {"reference_nll": "forget", "reference_idk_nll": "forget_idk"}.items():
            if name in self.forget_inputs:
                keys = zip(plan["forget_row_id"], texts[block][1], strict=True)
                columns[name] = [nll[key] for key in keys]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values())]

    def collate(self, rows: Sequence[dict[str, Tokens | float]]) -> dict[str, Tensor]:
        """Stack the blocks of the rows, block after block."""
        batch = answer_batch([row[block] for block in self.blocks for row in rows])
        for name in ("reference_nll", "reference_idk_nll"):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])
        return batch

    def compute_loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted sum, and each loss by itself.

        Args:
            logits: (blocks x rows, T, V), aligned with the labels.
            batch: what ``collate`` gives.
        """
        blocks = zip(
            self.blocks,
            logits.chunk(len(self.blocks)),
            batch["labels"].chunk(len(self.blocks)),
            strict=True,
        )
        inputs: dict[str, dict[str, Tensor]] = {"forget": dict(batch), "retain": dict(batch)}
        for block, block_logits, block_labels in blocks:
            side, _, variant = block.partition("_")
            prefix = "idk_" if variant else ""
            inputs[side][f"{prefix}logits"] = block_logits
            inputs[side][f"{prefix}labels"] = block_labels
        forget_loss = FORGET[self.forget.loss](
            **{name: inputs["forget"][name] for name in self.forget_inputs},
            **self.forget.hyperparameters,
        )
        retain_loss = RETAIN[self.retain.loss](
            **{name: inputs["retain"][name] for name in self.retain_inputs},
            **self.retain.hyperparameters,
        )
        total = self.forget.weight * forget_loss + self.retain.weight * retain_loss
        return {"loss": total, "forget_loss": forget_loss, "retain_loss": retain_loss}


class _Trainer(Trainer):
    """The Trainer with a loss on the logits of the answers."""

    def __init__(self, *, loss_function: Callable[..., dict[str, Tensor]], **arguments) -> None:
        super().__init__(**arguments)
        self.loss_function = loss_function
        self.terms: dict[str, Tensor] = {}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        logits = answer_logits(model, inputs)
        losses = self.loss_function(logits, inputs)
        self.terms = {name: value.detach() for name, value in losses.items() if name != "loss"}
        return losses["loss"]

    def log(self, logs, *args, **kwargs):
        terms = {name: value.item() for name, value in self.terms.items() if "loss" in logs}
        super().log(logs | terms, *args, **kwargs)


class _ProgressBar(TrainerCallback):
    """One bar over the steps that shows the loss."""

    def __init__(self, description: str) -> None:
        self.description = description

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(
            total=state.max_steps, desc=self.description, unit="step", disable=None
        )

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}")

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


def _train(
    language_model: LanguageModel,
    rows: Sequence[object],
    *,
    collate: Callable[..., dict[str, Tensor]],
    compute_loss: Callable[..., dict[str, Tensor]],
    parameters: OptimiserParameters,
    rows_per_epoch: int,
    epochs: int,
    sampling: str,
    description: str,
) -> pd.DataFrame:
    model, tokenizer = language_model
    with tempfile.TemporaryDirectory() as folder:
        trainer = _Trainer(
            loss_function=compute_loss,
            model=model,
            processing_class=tokenizer,
            train_dataset=rows,
            data_collator=collate,
            callbacks=[_ProgressBar(description)],
            args=TrainingArguments(
                output_dir=folder,
                num_train_epochs=epochs,
                per_device_train_batch_size=parameters.batch_size,
                learning_rate=parameters.learning_rate,
                lr_scheduler_type="linear",
                warmup_steps=math.ceil(
                    parameters.warmup_epochs * rows_per_epoch / parameters.batch_size
                ),
                weight_decay=parameters.weight_decay,
                max_grad_norm=parameters.max_grad_norm,
                train_sampling_strategy=sampling,
                seed=parameters.seed,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                remove_unused_columns=False,
                disable_tqdm=True,
                dataloader_pin_memory=torch.cuda.is_available(),
            ),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return pd.DataFrame(steps).rename(columns={"grad_norm": "gradient_norm"})
