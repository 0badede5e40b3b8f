"""A loss and all that is known of it, in one record; and how a name in YAML becomes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from closer_look.plugins import check_hyperparameters, is_dotted_path, load_object

TENSORS = (
    "logits",
    "labels",
    "idk_logits",
    "idk_labels",
    "mismatch_logits",
    "mismatch_labels",
    "alternate_logits",  # of an alternate answer: as plausible as the true one, with other facts
    "alternate_labels",
    "reference_nll",
    "reference_idk_nll",
    "reference_alternate_nll",
    "reference_logits",
    "activations",  # hidden states behind one layer, (B, T, D), aligned with the labels, or (n, D)
    "reference_activations",
    "control_vector",  # (D,), drawn once and then fixed: where the states of a forget row are sent
)
"""Parameters of a loss that training provides; all others are hyperparameters."""


def one_for_a_row(n_labels: int, **_: object) -> int:
    """Count a row's text once, if it has a label."""
    return min(n_labels, 1)


def every_position(n_labels: int, **_: object) -> int:
    """Count each position of a row's text that has a label."""
    return n_labels


class Loss(NamedTuple):
    """A loss and the facts that checks, the report and the documentation read."""

    function: Callable[..., Tensor]
    """Of tensors, named as in ``TENSORS``, and of hyperparameters, whose annotations hold their
    types and bounds."""
    label: str
    """A few letters, as in the field's tables ("NPO")."""
    sentence: str
    """What it asks of the model, for the report: it goes on after "On what is to be forgotten:"."""
    mean_over_positions: bool = False
    """Whether it averages over positions; then a method may average over a padded length."""
    stands_alone: bool = False
    """Whether a method with it has no retain loss."""
    counts: Callable[..., int] | None = None
    """What a row adds to the number that the loss divides by: of the labels of its text, and of the
    hyperparameters. By default a row, or its positions if it averages over them. From it, the parts
    of a step get their weights. A loss that counts positions of several texts is a sum of what it
    is of each alone."""

    @property
    def count(self) -> Callable[..., int]:
        """``counts``, or its default."""
        return self.counts or (every_position if self.mean_over_positions else one_for_a_row)

    @property
    def tensors(self) -> set[str]:
        """Names of the tensors that it reads."""
        return inspect.signature(self.function).parameters.keys() & set(TENSORS)

    def check(self, hyperparameters: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that the function does not take, by their type and bounds.

        Raises:
            ValueError: naming the first one, or a parameter of the function that has no value.
        """
        check_hyperparameters(self.function, hyperparameters, TENSORS, "loss")


def table(*losses: Loss) -> dict[str, Loss]:
    """Losses by the names of their functions."""
    return {loss.function.__name__: loss for loss in losses}


def find_loss(name: str, losses: Mapping[str, Loss]) -> Loss:
    """Find a loss by its name in a table, or by its dotted path in a package of the user's own.

    Args:
        name: a key of ``losses``, or ``package.module:function``, where the module holds a function
            of tensors or a ``Loss``. A function alone counts rows, or positions if it reads
            ``reference_logits``.
        losses: ``FORGET`` or ``RETAIN``.

    Raises:
        ValueError: there is none, or it reads neither logits nor activations.
    """
    if not is_dotted_path(name):
        if name not in losses:
            raise ValueError(
                f"unknown loss '{name}', choose from {', '.join(losses)}, or name one of your own "
                f"as package.module:function"
            )
        return losses[name]
    found = load_object(name, "loss")
    if not isinstance(found, Loss):
        if not inspect.isfunction(found):
            raise ValueError(f"loss '{name}' is no function")
        label = found.__name__.replace("_", " ")
        of_positions = "reference_logits" in inspect.signature(found).parameters
        found = Loss(found, label, f"{label}, a loss of {found.__module__}", of_positions)
    if not any(tensor.endswith(("logits", "activations")) for tensor in found.tensors):
        read = ", ".join(sorted(found.tensors)) or "-"
        raise ValueError(f"loss '{name}' reads neither logits nor activations, only {read}")
    return found
