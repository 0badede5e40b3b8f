"""Fine-tuning and unlearning on the Hugging Face Trainer."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from closer_look.errors import InputError
from closer_look.language_model import LanguageModel
from closer_look.losses import gradient_descent
from closer_look.objective import Objective
from closer_look.packing import answer_logits, pack, rows_kept_apart
from closer_look.progress import progress_bar
from closer_look.tokens import encode

if TYPE_CHECKING:
    from torch import Tensor

    from closer_look.parameters import (
        FinetuningParameters,
        LoraParameters,
        MethodParameters,
        OptimiserParameters,
        UnlearningParameters,
    )
    from closer_look.reference_scores import ReferenceScores


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

    Raises:
        InputError: a loss or a gradient is not finite.
    """
    encoded = encode(language_model.tokenizer, questions, answers)
    rows = [  # the sampler groups by input_ids
        {"input_ids": row.prompt + row.answer, "row": row, "name": f"'{question}'"}
        for question, row in zip(questions, encoded, strict=True)
    ]
    return _train(
        language_model,
        rows,
        collate=lambda chosen: (
            pack([item["row"] for item in chosen]) | {"names": [item["name"] for item in chosen]}
        ),
        compute_loss=lambda logits, batch: {
            "loss": gradient_descent(logits[None], batch["labels"][None])
        },
        parameters=parameters,
        rows_per_epoch=len(rows),
        epochs=parameters.epochs,
        sampling="group_by_length",
        description=description,
    )


def unlearn(
    language_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    reference_scores: ReferenceScores,
    method: MethodParameters,
    parameters: UnlearningParameters,
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
        description: what the progress bar says.

    Returns:
        The model, with adapters where LoRA is asked for, and the training log, as ``finetune``
        gives it, with ``forget_loss`` and ``retain_loss``.

    Raises:
        InputError: LoRA's target modules match no layer of the model; a loss or a gradient is not
            finite.
    """
    if method.learning_rate is not None:
        parameters = parameters.model_copy(update={"learning_rate": method.learning_rate})
    objective = Objective(method)
    rows = objective.encode(language_model.tokenizer, plan, questions, reference_scores)
    head = reference_scores.output_head
    if head is not None:
        head = head.to(language_model.model.device)
    if parameters.lora:
        set_seed(parameters.seed)  # adapters start at random
        language_model = with_adapter(language_model, parameters.lora)
    log = _train(
        language_model,
        rows,
        collate=objective.collate,
        compute_loss=lambda logits, batch: objective.loss(logits, batch, head),
        parameters=parameters,
        rows_per_epoch=len(rows) // plan["epoch"].nunique(),
        epochs=1,  # the plan already holds every epoch, in order
        sampling="sequential",
        description=description,
    )
    return language_model, log


def with_adapter(language_model: LanguageModel, lora: LoraParameters) -> LanguageModel:
    """Put LoRA adapters on the model, unless an earlier task did.

    Raises:
        InputError: the target modules match no layer of the model.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    model, tokenizer = language_model
    if isinstance(model, PeftModel):
        return language_model
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return LanguageModel(get_peft_model(model, config), tokenizer)
    except ValueError as error:
        raise InputError(f"parameter unlearning.lora.target_modules: {error}") from None


class _Trainer(Trainer):
    """The Trainer with a loss on the logits of the answers."""

    loss_is_scaled_for_ga = False  # a mean over the micro-batch, for the Trainer to average

    def __init__(self, *, loss_function: Callable[..., dict[str, Tensor]], **arguments) -> None:
        super().__init__(**arguments)
        self.loss_function = loss_function
        self.terms: list[dict[str, Tensor]] = []  # of the micro-batches since the last log
        self.names: list[str] = []  # of their rows

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        logits = answer_logits(model, inputs)
        losses = self.loss_function(logits, inputs)
        terms = {name: value.detach() for name, value in losses.items() if name != "loss"}
        self.terms.append(terms)
        self.names += inputs["names"]
        return losses["loss"]

    def log(self, logs, *args, **kwargs):
        if "loss" in logs:
            logs |= {
                name: torch.stack([terms[name] for terms in self.terms]).mean().item()
                for name in self.terms[0]
            }
            self._check_finite(logs)
            self.terms.clear()
            self.names.clear()
        super().log(logs, *args, **kwargs)

    def _check_finite(self, logs: dict[str, float]) -> None:
        """Stop before a model of which nothing is left is saved."""
        for name, value in logs.items():
            if not math.isfinite(value):
                raise InputError(
                    f"training: {name.replace('grad_norm', 'gradient_norm')} is {value} at step "
                    f"{self.state.global_step}, rows {', '.join(dict.fromkeys(self.names))}; the "
                    f"model is not saved. A lower learning_rate may keep it finite"
                )


class _ProgressBar(TrainerCallback):
    """One bar over the steps that shows the loss."""

    def __init__(self, description: str) -> None:
        self.description = description

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = progress_bar(state.max_steps, self.description, "step")

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

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
    micro_batch_size = parameters.micro_batch_size or parameters.batch_size
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=micro_batch_size,
            gradient_accumulation_steps=parameters.batch_size // micro_batch_size,
            activation_checkpointing=parameters.gradient_checkpointing,
            bf16=parameters.precision == "bf16",
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
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel would multiply the batch
        trainer = _Trainer(
            loss_function=compute_loss,
            model=model,
            processing_class=tokenizer,
            train_dataset=rows,
            data_collator=collate,
            callbacks=[_ProgressBar(description)],
            args=arguments,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        with rows_kept_apart(model):
            trainer.train()
        # Without the mixed precision of training: as the model will be when it is read from disk.
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return pd.DataFrame(steps).rename(columns={"grad_norm": "gradient_norm"})
