"""The training loop of fine-tuning and unlearning, built on the Hugging Face Trainer.

A step packs its rows (``models.packing``), and its loss reads the logits of the answers only.
"""

from __future__ import annotations

import math
from collections import UserList
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from closer_look.errors import InputError, first_line
from closer_look.models.language_model import LanguageModel
from closer_look.models.packing import packed_attention, takes_packed_rows
from closer_look.models.tied_embeddings import tied_embeddings
from closer_look.models.tokens import longest_text
from closer_look.system.code import code_fingerprint
from closer_look.system.memory import (
    halve_until_it_fits,
    is_out_of_memory,
    out_of_memory_ends_the_run,
)
from closer_look.training.checkpoints import Checkpoints, training_folder, training_key
from closer_look.training.combination import Combination
from closer_look.training.dual_optim import DualOptim
from closer_look.training.guard import Guard
from closer_look.training.processes import (
    from_all,
    is_true_anywhere,
    largest_part,
    n_processes,
    own_randomness,
    part_of,
    rank,
    summed,
)
from closer_look.training.progress import ProgressBar
from closer_look.training.recomputing import recomputing
from closer_look.training.sharding import OutOfMemory, is_sharded, shard_states

if TYPE_CHECKING:
    from torch import Tensor

    from closer_look.models.tokens import Batch
    from closer_look.parameters.training import OptimiserParameters

LOGGED = (
    *("step", "epoch", "loss", "forget_loss", "retain_loss", "retain_weight"),
    *("learning_rate", "gradient_norm", "retain_gradient_norm", "micro_batch_size"),
)
"""Columns of a training log."""

NO_STEPS = pd.DataFrame(columns=[*LOGGED, "in_model"]).astype({"step": int, "in_model": bool})
"""The log of a method that trains nothing."""

OPTIMISERS = {
    "adamw": lambda _: None,  # the Trainer's own
    "dual_optim": lambda parameters: (DualOptim, {"lr": parameters.learning_rate}),
}

MOMENTS = {"adamw": 2, "dual_optim": 4}  # that each keeps of a trained weight

WEIGHTED = "weighted sum"  # of the losses, beside their names

STEP_SEEDS = 100_003  # between the seeds of two steps, more than there are processes

LESS_MEMORY = "; gradient_checkpointing and LoRA need less memory"


def train(
    language_model: LanguageModel,
    rows: Sequence[Mapping[str, object]],
    *,
    collate: Callable[..., Batch],
    compute_losses: Callable[..., dict[str, Tensor]],
    combination: Combination,
    parameters: OptimiserParameters,
    rows_per_epoch: int,
    epochs: int,
    sampling: str,
    checkpoints: Path | None,
    description: str,
    optimiser: str = "adamw",
    determined_by: Sequence[object] = (),
    guard: Guard | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    reads_logits: bool = True,
    most_rows: int | None = None,
) -> pd.DataFrame:
    """Train a model in place, with its weights in fp32, in this process or several together.

    The loss of a step is the same however its rows are shared out over passes and processes. With
    dropout, each process draws its own, and the numbers depend on how many there are.

    Args:
        language_model: the model, changed in place.
        rows: one item per training row; with ``input_ids`` if rows are grouped by length.
        collate: (rows of a pass, rows of its step) -> a batch with the ``names`` of the first, for
            error messages.
        compute_losses: (model, batch) -> what the pass adds to each loss of its step, by name.
        combination: makes one gradient of the losses.
        parameters: learning rate, batch sizes and the like.
        rows_per_epoch: turns ``warmup_epochs`` into steps.
        epochs: passes over ``rows``.
        sampling: the Trainer's strategy, "sequential" or "group_by_length".
        checkpoints: folder for checkpoints; None for none.
        description: label of the progress bar.
        optimiser: "adamw" or "dual_optim".
        determined_by: everything else that the result depends on, for the key of the checkpoints.
        guard: may end the training at a bound of the losses.
        callbacks: of the Trainer; they change no weights.
        reads_logits: whether every loss does: then each gradient has a part of the output head.
        most_rows: in a pass, where memory has run out with more.

    Returns:
        The training log, a row per step, with the columns of ``LOGGED`` that the losses have.

    Raises:
        InputError: a loss or a gradient is not finite, or a single row does not fit into memory.
        OutOfMemory: weights are shared out, and memory has run out in one of the processes.
    """
    model, tokenizer = language_model
    settings = parameters.model_dump(exclude={"checkpoint_minutes"})
    code = code_fingerprint(train)
    key = partial(training_key, language_model, rows, settings, code, *determined_by)
    minutes = parameters.checkpoint_minutes if checkpoints else None
    with training_folder(checkpoints if minutes else None, key) as folder:
        own_checkpoints = Checkpoints(folder, minutes, description, MOMENTS[optimiser])
        arguments = TrainingArguments(
            output_dir=own_checkpoints.partial,
            num_train_epochs=epochs,
            per_device_train_batch_size=parameters.batch_size,
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
            save_strategy="no",  # only when own_checkpoints asks
            report_to=list(parameters.report_to) if rank() == 0 else [],
            run_name=checkpoints and checkpoints.stem,  # of the model, such as me_gd.task_03
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,  # the rows of a step are not tensors yet
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel would multiply the batch
        trainer = _Trainer(
            collate=collate,
            compute_losses=compute_losses,
            combination=combination,
            micro_batch_size=min(
                parameters.micro_batch_size or parameters.batch_size,
                largest_part(parameters.batch_size),
                most_rows or parameters.batch_size,
            ),
            checkpoints=own_checkpoints,
            guard=guard,
            model=model,
            processing_class=tokenizer,
            train_dataset=rows,
            callbacks=[
                own_checkpoints,
                *([ProgressBar(description)] if rank() == 0 else []),
                *callbacks,
            ],
            args=arguments,
            optimizer_cls_and_kwargs=OPTIMISERS[optimiser](parameters),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        # Out of memory inside a pass is handled by halve_until_it_fits.
        needs = "gradients and the optimiser's moments"
        with (
            packed_attention(model, longest_text(rows)),
            recomputing(trainer) if parameters.gradient_checkpointing else nullcontext(),
            tied_embeddings(model) if reads_logits and n_processes() == 1 else nullcontext(),
            out_of_memory_ends_the_run(needs, LESS_MEMORY),
        ):
            if is_sharded(model) and not takes_packed_rows(model):
                # Of all processes, as many forward passes: each puts the layers together for all.
                trainer.micro_batch_size = 1
            trainer.train(resume_from_checkpoint=own_checkpoints.latest)
        # Remove the mixed precision of training: the model answers as it will when read from disk.
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    log = pd.DataFrame(steps).rename(columns={"grad_norm": "gradient_norm"})
    return log[[name for name in LOGGED if name in log]]


class _Trainer(Trainer):
    """A Trainer that combines losses to one gradient, and which gets all rows of a step.

    It splits them into micro-batches itself, so that it can repeat a step with smaller ones when
    memory runs out.
    """

    loss_is_scaled_for_ga = True  # the loss of a pass is its part of the step's

    def __init__(
        self,
        *,
        collate: Callable[..., Batch],
        compute_losses: Callable[..., dict[str, Tensor]],
        combination: Combination,
        micro_batch_size: int,
        checkpoints: Checkpoints,
        guard: Guard | None,
        **arguments,
    ) -> None:
        # accelerate copies lists to the device, token by token; it leaves a UserList alone.
        super().__init__(data_collator=UserList, **arguments)
        self.collate = collate
        self.compute_losses = compute_losses
        self.combination = combination
        self.micro_batch_size = micro_batch_size
        self.checkpoints = checkpoints
        self.guard = guard
        self.with_state = [combination, *([guard] if guard else [])]
        self.terms: dict[str, Tensor] = {}  # losses of the step, to log
        self.merged: dict[str, float] = {}  # of how they became one step, to log
        self.names: list[str] = []  # of the step's rows, for errors

    def training_step(self, model, inputs, num_items_in_batch=None):
        # From the log: a resumed training has it, too, and continues with the same size.
        logged = self.state.log_history[-1:]
        loss, self.micro_batch_size = halve_until_it_fits(
            partial(self._attempt, model, inputs),
            min([self.micro_batch_size, *(entry["micro_batch_size"] for entry in logged)]),
            remark=f", gradients accumulate to the same batch of {self.args.train_batch_size}",
            advice=LESS_MEMORY,
        )
        if n_processes() > 1 and not is_sharded(model):
            self.combination.sum_over_processes(model.parameters())
        self.terms = summed(self.terms | {WEIGHTED: loss})
        loss = self.terms.pop(WEIGHTED)
        self.merged = self.combination.end_step(self.terms)
        if self.guard and self.guard.ends(self.state, self.terms):
            self.control.should_training_stop = True
        return loss

    def _attempt(self, model, rows, micro_batch_size):
        """Try a step; if memory runs out in one process, it does in all."""
        failure = None
        try:
            loss = self._accumulate(model, rows, micro_batch_size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if is_sharded(model):  # others wait for this process: only a new start helps
                raise OutOfMemory(first_line(error), micro_batch_size) from None
            failure = error
        if is_true_anywhere(failure is not None):
            raise failure or torch.OutOfMemoryError("another process is out of memory.")
        return loss

    def _accumulate(self, model, rows, micro_batch_size):
        """Compute the gradients of a step, or this process's part of them, pass after pass."""
        model.zero_grad()  # an attempt that ran out of memory leaves gradients behind
        self.combination.start_step()
        self.terms, self.names = {}, []
        own, losses = part_of(rows), []
        seed = self.args.seed + STEP_SEEDS * (self.state.global_step + 1)
        with own_randomness(seed):
            for start in range(0, largest_part(len(rows)), micro_batch_size):
                chosen = own[start : start + micro_batch_size]
                # All processes make as many passes; one that has no row left makes it for nothing.
                self.is_idle = not chosen
                batch = self.collate(chosen or rows[:1], rows)
                losses.append(super().training_step(model, batch))
        return sum(losses)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        # The model's own forward computes in bf16 where that is asked for, but a loss on hidden
        # states runs its layers alone.
        with self.accelerator.autocast():
            losses = self.compute_losses(model, inputs)
        if self.is_idle:
            losses = {name: 0 * loss for name, loss in losses.items()}
        else:
            self.names += inputs["names"]
        for name, loss in losses.items():
            self.terms[name] = self.terms.get(name, 0) + loss.detach()
        return self.combination.total(losses, model.parameters())

    def create_optimizer(self, *args, **kwargs):
        optimiser = super().create_optimizer(*args, **kwargs)
        if is_sharded(self.model):
            for one in getattr(optimiser, "both", [optimiser]):
                shard_states(one)
        return optimiser

    def floating_point_ops(self, inputs):
        return 0  # not counted

    def log(self, logs, *args, **kwargs):
        if "loss" in logs:
            terms = {name: value.item() for name, value in sorted(self.terms.items())}
            logs |= terms | self.merged
            self._check_finite(logs)
            logs["micro_batch_size"] = self.micro_batch_size
        super().log(logs, *args, **kwargs)

    def _check_finite(self, logs: dict[str, float]) -> None:
        """Stop at a loss or gradient that is not finite, before the broken model is saved."""
        for name, value in logs.items():
            if not math.isfinite(value):
                names = dict.fromkeys(name for part in from_all(self.names) for name in part)
                raise InputError(
                    f"training: {name.replace('grad_norm', 'gradient_norm')} is {value} at step "
                    f"{self.state.global_step}, rows {', '.join(names)}; the "
                    f"model is not saved; try a lower learning_rate"
                )

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for part in self.with_state:
            part.load(Path(resume_from_checkpoint))

    def _issue_warnings_after_load(self, load_result):
        """Do not warn of missing weights: they are tied to others."""

    def _save_checkpoint(self, model, trial):
        if rank() == 0:
            super()._save_checkpoint(model, trial)
        elif is_sharded(model):  # give the first process the parts: of the same states, in order
            model.state_dict()
            self.optimizer.state_dict()
        for part in self.with_state:
            part.save(self.checkpoints.written(self.state))
        if rank() == 0:
            self.checkpoints.complete(self.state)

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, self.model.state_dict() if is_sharded(self.model) else None)
