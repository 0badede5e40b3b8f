"""Parameters of fine-tuning, unlearning and the methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from closer_look.parameters.base import Name, Parameters
from closer_look.parameters.experiment import Experiment, Split
from closer_look.plugins import is_dotted_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from closer_look.losses import Loss


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
    seed: int

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

    lora: LoraParameters | None = None
    """Adapters, which all tasks of a chain train; if absent, all weights are trained."""
    stop_when: FiniteFloat | None = None
    """End a task after the step whose forget loss is below this: gradient ascent has no bound of
    its own."""
    max_retain_loss: PositiveFloat | None = None
    """End a task at the step whose retain loss is above this, and restore the weights after the
    epoch with the lowest forget loss that stayed below it (see ``guard.Guard``)."""


class LossParameters(Parameters):
    """A loss: its name, its weight, and its hyperparameters (such as ``beta``)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    loss: str
    """A name in ``losses``, or ``package.module:function`` for a loss of your own."""
    weight: NonNegativeFloat = 1.0
    positions: Literal["answer", "question_and_answer"] = "answer"
    """Positions over which the loss is computed; padding is never among them."""
    padded_length: PositiveInt | None = None
    """Average over rows padded to this many tokens, instead of over the positions. The published
    code averages maximum entropy and KL over rows padded to 500 tokens (300 for real-world); use
    these values to use the published weights."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Keyword arguments of the loss in addition to its tensors."""
        return dict(self.model_extra or {})

    def check(self, loss: Loss) -> None:
        """Refuse parameters that the loss does not take.

        Raises:
            ValueError: a parameter is unknown or out of bounds; the message names the first.
        """
        if self.padded_length and not loss.mean_over_positions:
            raise ValueError(
                f"loss '{self.loss}' is not a mean over positions: remove padded_length"
            )
        loss.check(self.hyperparameters)


NOT_PROVIDED = {
    "forget": ("reference_logits",),
    "retain": ("reference_nll", "reference_idk_nll"),
}
"""Tensors that training provides only for the loss of the other side."""


class MethodParameters(Parameters):
    """An unlearning method: weight * forget loss + weight * retain loss."""

    label: Name
    forget: LossParameters
    retain: LossParameters
    learning_rate: PositiveFloat | None = None
    """Replaces ``unlearning.learning_rate`` for this method."""
    stop_when: FiniteFloat | None = None
    """Replaces ``unlearning.stop_when`` for this method: losses differ in scale."""
    max_retain_loss: PositiveFloat | None = None
    """Replaces ``unlearning.max_retain_loss`` for this method."""

    @property
    def own(self) -> dict[str, float]:
        """Values of the method that replace those of ``UnlearningParameters``."""
        names = {"learning_rate", "stop_when", "max_retain_loss"}
        return self.model_dump(include=names, exclude_none=True)

    @property
    def losses(self) -> dict[str, Loss]:
        """The losses of the two sides: "forget" and "retain"."""
        from closer_look.losses import FORGET, RETAIN, find_loss

        return {
            "forget": find_loss(self.forget.loss, FORGET),
            "retain": find_loss(self.retain.loss, RETAIN),
        }

    @property
    def reads_reference_logits(self) -> bool:
        """Whether the retain loss compares with the reference's distribution, as KL does."""
        return "reference_logits" in self.losses["retain"].tensors

    @property
    def named_code(self) -> dict[str, Callable | str]:
        """Code that these parameters name; the method's models depend on it."""
        names = {side: getattr(self, side).loss for side in self.losses}
        return {
            f"loss {name}": name if is_dotted_path(name) else self.losses[side].function
            for side, name in names.items()
        }

    @model_validator(mode="after")
    def _losses_exist(self) -> Self:
        for side, loss in self.losses.items():
            getattr(self, side).check(loss)
            missing = loss.tensors & set(NOT_PROVIDED[side])
            if missing:
                raise ValueError(
                    f"loss '{getattr(self, side).loss}' reads {', '.join(sorted(missing))}, which "
                    f"is not available on the {side} side"
                )
        return self


def used_methods(experiment: Experiment, methods: dict[str, Any]) -> list[MethodParameters]:
    """Return the methods of a run, by their names among all that there are."""
    return [MethodParameters.model_validate(methods[name]) for name in experiment.methods]
