"""How models are fine-tuned and unlearned, and what a method is."""

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

from closer_look.parameters.base import Parameters
from closer_look.parameters.experiment import Split
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
    """Rows in one forward pass, where a step does not fit into memory; gradients accumulate. Out of
    memory, a run halves it by itself and says so."""
    gradient_checkpointing: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the arithmetic; "bf16" needs a GPU that knows it."""
    warmup_epochs: NonNegativeFloat = 1.0
    weight_decay: NonNegativeFloat = 0.01
    max_grad_norm: PositiveFloat = 1.0
    checkpoint_minutes: PositiveFloat | None = Field(30, exclude=True)  # no result depends on it
    """From one checkpoint inside a training to the next; a run that was killed goes on from the
    last, to the same numbers. It takes three times the space of the weights that are trained; null
    for none."""
    seed: int

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} leaves nothing of {self.epochs} epochs"
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
    """Low-rank adapters on linear layers in place of full fine-tuning; as published, if asked."""

    rank: PositiveInt = 8
    alpha: PositiveInt = 32
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class FinetuningParameters(OptimiserParameters):
    """How the target model learns the questions it will later forget."""

    splits: tuple[Split, ...] | None = None
    """What it learns; everything if absent."""
    answers: Literal["answer", "reference_answer"] = "answer"
    """The column it learns: short answers to general questions, or the sentences around them
    where there are any."""
    declined_questions: NonNegativeInt = 0
    """Rows of tasks beyond ``experiment.n_tasks`` that it learns to answer with a refusal. Chat
    models know how to decline; a model trained from scratch has to learn it."""


class UnlearningParameters(OptimiserParameters):
    """What all methods of a run have in common; a batch has that many forget rows."""

    lora: LoraParameters | None = None
    """Adapters that a chain of tasks goes on training; without them all weights are trained."""
    stop_when: FiniteFloat | None = None
    """A task ends after the step whose forget loss is below this: gradient ascent has no bound of
    its own."""
    max_retain_loss: PositiveFloat | None = None
    """A task ends at the step whose retain loss is above this, and goes back to the weights after
    the epoch with the lowest forget loss that kept below it (see ``guard.Guard``)."""


class LossParameters(Parameters):
    """A loss by name, its weight, and its own hyperparameters (such as ``beta``)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    loss: str
    """A name in ``losses``, or ``package.module:function`` for one of the user's own."""
    weight: NonNegativeFloat = 1.0
    positions: Literal["answer", "question_and_answer"] = "answer"
    """Where the loss is taken; padding never counts."""
    padded_length: PositiveInt | None = None
    """Average over rows padded to that many tokens instead of over the positions taken. The
    published code averages maximum entropy and KL over rows padded to 500 (300 for real-world);
    with it, the published weights mean what they meant."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Keyword arguments that the loss takes beside its tensors."""
        return dict(self.model_extra or {})

    def check(self, loss: Loss) -> None:
        """Refuse what the loss does not take.

        Raises:
            ValueError: naming the first parameter that is wrong.
        """
        if self.padded_length and not loss.mean_over_positions:
            raise ValueError(f"loss '{self.loss}' is no mean over positions: no padded_length")
        loss.check(self.hyperparameters)


NOT_PROVIDED = {
    "forget": ("reference_logits",),
    "retain": ("reference_nll", "reference_idk_nll"),
}
"""Tensors that training has for the other side's loss alone."""


class MethodParameters(Parameters):
    """An unlearning method: weight * forget loss + weight * retain loss."""

    label: str
    forget: LossParameters
    retain: LossParameters
    learning_rate: PositiveFloat | None = None
    """In place of the learning rate that the methods share."""
    stop_when: FiniteFloat | None = None
    """In place of the one that the methods share, whose losses it may not fit."""
    max_retain_loss: PositiveFloat | None = None
    """In place of the one that the methods share."""

    @property
    def own(self) -> dict[str, float]:
        """What stands in place of ``UnlearningParameters``' values of the same names."""
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
    def named_code(self) -> dict[str, Callable | str]:
        """The code that these parameters name, on which what the method makes depends."""
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
                    f"there is not on the {side} side"
                )
        return self
