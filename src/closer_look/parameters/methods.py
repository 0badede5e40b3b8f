"""Parameters of the unlearning methods."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from closer_look.errors import InputError
from closer_look.parameters.base import Name, Parameters
from closer_look.parameters.experiment import Experiment, chosen
from closer_look.parameters.space import Dimension, Value
from closer_look.parameters.training import Optimiser, UnlearningParameters
from closer_look.plugins import is_dotted_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from closer_look.losses import Loss

TEACHES = "gradient_descent"
SUBJECTS = "{subjects}"
"""Stands in an instruction for the names of what is to be forgotten."""


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
        reference = sorted(name for name in loss.tensors if name.endswith("_nll"))
        if self.positions != "answer" and reference:
            raise ValueError(
                f"loss '{self.loss}' reads {reference[0]}, which is of the answer alone: remove "
                f"positions"
            )
        loss.check(self.hyperparameters)


class GradientSurgeryParameters(Parameters):
    """The forget gradient loses what conflicts with the retain gradient (arXiv 2001.06782)."""

    kind: Literal["gradient_surgery"]


class PrimalDualParameters(Parameters):
    """The retain loss has a bound; its weight grows while it is above (arXiv 2506.05314)."""

    kind: Literal["primal_dual"]
    retain_bound: NonNegativeFloat
    """The retain loss that is allowed, in its own units."""
    step_size: PositiveFloat
    """What each step adds to the weight, times the distance of the retain loss from its bound."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs during which the weight stays ``retain.weight``."""


Combination = Annotated[
    GradientSurgeryParameters | PrimalDualParameters, Field(discriminator="kind")
]


class ActivationParameters(Parameters):
    """The hidden states that losses on ``activations`` read, as RMU does (arXiv 2403.03218)."""

    layer: NonNegativeInt | None = None
    """Number of the decoder layer, from 0. If absent, the layer at 7/32 of the model's height: the
    published layer 7 of a model with 32."""
    steering_coefficient: PositiveFloat = 20.0
    """Length of the control vector, whose direction is drawn from the seed."""


class AlternatesParameters(Parameters):
    """Alternate answers to the forget questions, sampled from the target model."""

    per_row: PositiveInt = 1
    """Answers to each question; the epochs take them in turn."""
    temperature: PositiveFloat = 1.0
    """Of the first attempt; each attempt that gives the true answer, or none, is repeated at a
    temperature higher by half."""
    prompt: str = "{question}"
    """What the model is asked, with ``{question}`` and, if wanted, ``{answer}`` in it."""

    @field_validator("prompt")
    @classmethod
    def _asks_the_question(cls, prompt: str) -> str:
        if "{question}" not in prompt:
            raise ValueError("{question} must be part of it")
        return prompt


NOT_PROVIDED = {
    "forget": ("reference_activations",),
    "retain": (
        *("reference_nll", "reference_idk_nll", "reference_alternate_nll"),
        *("alternate_labels", "control_vector"),
    ),
}
"""Tensors that training provides only for the loss of the other side."""


class MethodParameters(Parameters):
    """An unlearning method: weight * forget loss + weight * retain loss, or an instruction."""

    label: Name
    forget: LossParameters | None = None
    retain: LossParameters | None = None
    """If absent, the method reads no row to retain."""
    instruction: Annotated[str, Field(min_length=1)] | None = None
    """A system message in place of training; ``{subjects}`` becomes the names to keep silent on."""
    combination: Combination | None = None
    """How the two losses become one step; a weighted sum if absent."""
    activations: ActivationParameters = ActivationParameters()
    alternates: AlternatesParameters | None = None
    """Needed by losses that read ``alternate_logits``."""
    task_vector_scale: PositiveFloat | None = None
    """Subtract what the training has added to the weights, times this factor, instead of keeping it
    (arXiv 2212.04089)."""
    trainable: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Regular expressions for the full names of the weights to train; all if absent."""
    learning_rate: PositiveFloat | None = None
    """Replaces ``unlearning.learning_rate`` for this method."""
    epochs: PositiveInt | None = None
    """Replaces ``unlearning.epochs`` for this method."""
    optimiser: Optimiser | None = None
    """Replaces ``unlearning.optimiser`` for this method."""
    stop_when: FiniteFloat | None = None
    """Replaces ``unlearning.stop_when`` for this method: losses differ in scale."""
    max_retain_loss: PositiveFloat | None = None
    """Replaces ``unlearning.max_retain_loss`` for this method."""
    space: dict[str, Dimension] = Field(default={})
    """Dotted parameter of the method (``forget.beta``) -> values that tuning tries, beside those of
    ``tuning.space``. A training does not depend on it."""

    @property
    def own(self) -> dict[str, Any]:
        """Values of the method that replace those of ``UnlearningParameters``."""
        names = {"learning_rate", "epochs", "optimiser", "stop_when", "max_retain_loss"}
        return self.model_dump(include=names, exclude_none=True)

    @property
    def losses(self) -> dict[str, Loss]:
        """The losses of the sides that have one: "forget" and "retain"."""
        from closer_look.losses import FORGET, RETAIN, find_loss

        tables = {"forget": FORGET, "retain": RETAIN}
        chosen = {side: getattr(self, side) for side in tables}
        return {
            side: find_loss(term.loss, tables[side])
            for side, term in chosen.items()
            if term is not None
        }

    def reads(self, tensor: str) -> bool:
        """Return whether a loss of the method reads a tensor (a name in ``losses.TENSORS``)."""
        return any(tensor in loss.tensors for loss in self.losses.values())

    def with_values(self, values: Mapping[str, Value]) -> MethodParameters:
        """Return the method with other values of some parameters, and without a space.

        Args:
            values: dotted name of a parameter -> value.

        Raises:
            ValueError: the method has no such parameter, or cannot have this value of it.
        """
        changed = self.model_dump(exclude={"space"}, exclude_none=True)
        for name, value in values.items():
            *groups, field = name.split(".")
            inside = changed
            for group in groups:
                inside = inside.get(group)
                if not isinstance(inside, dict):
                    raise ValueError(f"the method has no '{group}'")
            inside[field] = value
        return MethodParameters.model_validate(changed)

    @property
    def named_code(self) -> dict[str, Callable | str]:
        """Code that these parameters name; the method's models depend on it."""
        names = {side: getattr(self, side).loss for side in self.losses}
        return {
            f"loss {name}": name if is_dotted_path(name) else self.losses[side].function
            for side, name in names.items()
        }

    @field_validator("combination", mode="before")
    @classmethod
    def _is_of_a_kind(cls, combination: Any) -> Any:
        kinds = ("gradient_surgery", "primal_dual")
        if isinstance(combination, dict) and combination.get("kind") not in kinds:
            raise ValueError(f"kind must be {' or '.join(map(repr, kinds))}")
        return combination

    @model_validator(mode="after")
    def _trains_or_instructs(self) -> Self:
        if (self.forget is None) == (self.instruction is None):
            raise ValueError("give either 'forget' or 'instruction'")
        fields = type(self).model_fields
        given = {name for name, value in self if value != fields[name].default}
        idle = sorted(given - {"label", "instruction"})
        if self.instruction and idle:
            raise ValueError(f"an instruction trains nothing: remove {', '.join(idle)}")
        if self.forget and (self.forget.loss == TEACHES) != (self.task_vector_scale is not None):
            raise ValueError(
                f"forget.loss {TEACHES} teaches what task_vector_scale then subtracts: give both "
                f"or neither"
            )
        needs_both = {"combination": self.combination, "optimiser": self.optimiser == "dual_optim"}
        for name, is_set in needs_both.items():
            if is_set and not (self.forget and self.retain):
                raise ValueError(f"{name}: it needs a forget loss and a retain loss")
        return self

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
            if loss.stands_alone and self.retain:
                raise ValueError(
                    f"loss '{self.forget.loss}' has no retain loss beside it: remove 'retain'"
                )
        if self.reads("alternate_labels") != (self.alternates is not None):
            raise ValueError(
                "'alternates' says how alternate answers are made, for a loss that reads them, "
                "such as altpo: give both or neither"
            )
        return self

    @model_validator(mode="after")
    def _takes_all_values_of_its_space(self) -> Self:
        for name, dimension in self.space.items():
            for point in dimension.points:
                try:
                    self.with_values({name: point})
                except ValueError as error:
                    raise ValueError(f"space.{name}: {error}") from None
        return self

    @field_validator("trainable")
    @classmethod
    def _are_expressions(cls, patterns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for pattern in patterns or ():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression ({error})") from None
        return patterns


def used_methods(experiment: Experiment, methods: dict[str, Any]) -> dict[str, MethodParameters]:
    """Return the methods of a run by name, in their order."""
    names = chosen(experiment.methods, methods)
    return {name: MethodParameters.model_validate(methods[name]) for name in names}


@contextmanager
def faults_of(name: str) -> Iterator[None]:
    """Put the name of a method before each ``InputError`` of the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"parameter methods.{name}: {error}") from None


def settings_of(method: MethodParameters, unlearning: UnlearningParameters) -> UnlearningParameters:
    """Return the settings of a method's training: those of the run, with its own in their place.

    Raises:
        InputError: they do not go together.
    """
    try:
        settings = UnlearningParameters.model_validate(dict(unlearning) | method.own)
    except ValueError as error:
        raise InputError(str(error)) from None
    surgery = method.combination and method.combination.kind == "gradient_surgery"
    if surgery and settings.optimiser == "dual_optim":
        raise InputError(
            "dual_optim keeps the gradients apart that gradient_surgery combines; give the method "
            "optimiser: adamw"
        )
    if method.trainable and settings.lora:
        raise InputError(
            "trainable: with LoRA, unlearning.lora.target_modules says what is trained; remove one "
            "of them"
        )
    if settings.optimiser == "dual_optim" and not method.retain:
        # Of one gradient it is AdamW, and takes no more memory.
        return settings.model_copy(update={"optimiser": "adamw"})
    return settings
