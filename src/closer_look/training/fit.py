"""What surely does not fit: less than any training takes is more than there is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from closer_look.training.trainer import MOMENTS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from closer_look.parameters.methods import MethodParameters
    from closer_look.parameters.training import OptimiserParameters

SMALLER = {
    "finetuning": "finetuning.workers=N, over several devices, does with less of each",
    "unlearning": "unlearning.lora.rank=8, or unlearning.workers=N over several devices, does with "
    "less",
}


def least_bytes(
    model: PreTrainedModel, settings: OptimiserParameters, method: MethodParameters | None = None
) -> int:
    """Count the bytes below which no device can train: weights, gradients and moments.

    Activations do not count, nor weights that may get no gradient.

    Args:
        model: without memory for its weights (see ``models.blueprint``).
        settings: of its training; a method's own are in place.
        method: of unlearning; None for fine-tuning.
    """
    weights = dict(model.named_parameters())
    trained = dict(weights)
    sees = model.config.get_text_config() is not model.config  # images, of which there are none
    adapted = getattr(settings, "lora", None)
    if sees or adapted or (method and not _trains_all(method)):
        trained = {}
    if method and method.trainable:
        patterns = method.trainable
        trained = {n: w for n, w in trained.items() if any(re.fullmatch(p, n) for p in patterns)}
    copies = 1 + MOMENTS[getattr(settings, "optimiser", "adamw")]
    parts = settings.workers if settings.sharding == "full" else 1
    return (_bytes(weights) + copies * _bytes(trained)) // parts


def _trains_all(method: MethodParameters) -> bool:
    """Whether every weight gets a gradient: states inside a model leave those behind them alone."""
    return not any("activations" in loss.tensors for loss in method.losses.values())


def _bytes(weights: Mapping) -> int:
    return sum(one.numel() * one.element_size() for one in weights.values())


def too_large(least: Mapping[str, int], memory: int, stage: str) -> str | None:
    """Say that none of a stage's trainings fits, if that is sure.

    Args:
        least: label of a training -> see ``least_bytes``.
        memory: bytes of a device.
        stage: "finetuning" or "unlearning".

    Returns:
        One line, or None.
    """
    if not least or min(least.values()) <= memory:
        return None
    leanest = min(least, key=least.__getitem__)
    return (
        f"{leanest} surely does not fit: weights, gradients and moments take "
        f"{least[leanest] / 1e9:,.1f} GB of a device, which has {memory / 1e9:,.1f} GB; "
        f"{SMALLER[stage]}; "
        f"kedro run --pipelines plan tells how much"
    )


def whole_too_large(model: PreTrainedModel, memory: int) -> str | None:
    """Say that a device has no room for all weights of a model, as it must for any training.

    Args:
        model: without memory for its weights (see ``models.blueprint``).
        memory: bytes of a device.

    Returns:
        One line, or None.
    """
    size = _bytes(dict(model.named_parameters()))
    if size <= memory:
        return None
    return (
        f"the model surely does not fit: its weights take {size / 1e9:,.1f} GB, a device has "
        f"{memory / 1e9:,.1f} GB, and one reads and asks the whole model before workers share it; "
        f"take a smaller model or a larger device"
    )
