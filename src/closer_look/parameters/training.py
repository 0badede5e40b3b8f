"""Parameters of fine-tuning and unlearning."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from closer_look.errors import quote
from closer_look.parameters.base import Parameters, Seed
from closer_look.parameters.experiment import Split

Optimiser = Literal["adamw", "dual_optim"]


class OptimiserParameters(Parameters):
    """AdamW with linear warm-up and linear decay, on weights kept in fp32."""

    learning_rate: PositiveFloat
    epochs: PositiveInt
    batch_size: PositiveInt
    """Rows in one step, over all processes."""
    micro_batch_size: PositiveInt | None = None
    """Rows in one forward pass, if a step does not fit into memory; gradients accumulate. When
    memory runs out, a run halves it and logs that."""
    gradient_checkpointing: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the arithmetic; "bf16" needs a GPU that supports it."""
    warmup_epochs: NonNegativeFloat = 1.0
    weight_decay: NonNegativeFloat = 0.01
    max_grad_norm: PositiveFloat = 1.0
    checkpoint_minutes: PositiveFloat | None = Field(30, exclude=True)  # no result depends on it
    """Minutes between checkpoints of a training. A run that was killed resumes from the last one
    and reaches the same numbers. A checkpoint takes three times the space of the trained weights;
    null for no checkpoints."""
    workers: PositiveInt = Field(1, exclude=True)
    """Processes that train one model together, each on a device of its own: GPUs if there are any.
    They take their parts of each step's rows; the loss of a step is the same for any number."""
    sharding: Literal["full", "none"] = Field("full", exclude=True)
    """Whether each worker holds its part of weights, gradients and the optimiser's moments ("full",
    FSDP2) or all of them ("none")."""
    report_to: tuple[str, ...] = Field((), exclude=True)
    """Trackers that the Trainer tells each step, by their names in transformers: "tensorboard",
    "wandb", "mlflow", "trackio", ..."""
    seed: Seed

    @field_validator("report_to", mode="before")
    @classmethod
    def _words(cls, names: Any) -> Any:
        """Split a string into words: on the command line, a comma separates parameters."""
        if names in ("none", None):
            return ()
        return names.split() if isinstance(names, str) else names

    @field_validator("report_to")
    @classmethod
    def _is_installed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            from transformers.integrations import get_available_reporting_integrations

            here = sorted(get_available_reporting_integrations())
            for name in names:
                if name not in here:
                    raise ValueError(
                        f"{quote(name)} is no tracker of transformers, or its package is not "
                        f"installed; choose from those that are: {', '.join(here) or 'none'}"
                    )
        return names

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> Self:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide "
                f"batch_size {self.batch_size}"
            )
        return self


class LoraParameters(Parameters):
    """Low-rank adapters on linear layers, in place of full training; defaults as published."""

    rank: PositiveInt = 8
    alpha: PositiveInt = 32
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class FinetuningParameters(OptimiserParameters):
    """Fine-tuning of the target model on the questions that it will later forget."""

    splits: tuple[Split, ...] | None = None
    """Splits to learn; all if absent."""
    answers: Literal["answer", "reference_answer"] = "answer"
    """Column to learn: the short answers to general questions, or the sentences around them for
    rows that have one."""
    declined_questions: NonNegativeInt = 0
    """Number of rows, from tasks beyond ``experiment.n_tasks``, to answer with a refusal. Chat
    models know how to decline; a model trained from scratch has to learn it."""


class UnlearningParameters(OptimiserParameters):
    """Settings that all methods of a run share; ``batch_size`` counts forget rows."""

    optimiser: Optimiser = "adamw"
    """"dual_optim" is AdamW with moments of its own for each of a method's two losses."""
    lora: LoraParameters | None = None
    """Adapters, which all tasks of a chain train; if absent, all weights are trained."""
    stop_when: FiniteFloat | None = None
    """End a task after the step whose forget loss is below this: gradient ascent has no bound of
    its own."""
    max_retain_loss: PositiveFloat | None = None
    """End a task at the step whose retain loss is above this, and restore the weights after the
    epoch with the lowest forget loss that stayed below it (see ``guard.Guard``)."""
