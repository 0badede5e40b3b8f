"""Whether a training fits, and the settings with which it would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from closer_look.parameters.training import LoraParameters

if TYPE_CHECKING:
    from closer_look.parameters.training import OptimiserParameters
    from closer_look.system.hardware import Devices
    from closer_look.training.needs import Needs

ROOMY = 0.9  # of the memory: the rest is for what allocators and the driver take
SMALLER: tuple[dict[str, Any], ...] = (
    {},
    {"gradient_checkpointing": True},
    {"gradient_checkpointing": True, "micro_batch_size": 1},
)
"""Settings that change no result beyond rounding, the cheaper ones first."""

Trial = Callable[[dict[str, Any]], "Needs"]
"""Takes changes of a training's settings, and tells what it would need."""


def total(found: Needs, devices: Devices) -> int:
    """Add up the bytes of a device; a CPU also holds what a GPU leaves to it."""
    return found.device + (found.kept if devices.is_cpu else 0)


def verdict(found: Needs, devices: Devices) -> str:
    """Say "fits", "tight", where little is left for other things, or "too large"."""
    share = total(found, devices) / devices.memory
    return "fits" if share <= ROOMY else "tight" if share <= 1 else "too large"


def advise(
    group: str,
    label: str,
    found: Needs,
    settings: OptimiserParameters,
    trial: Trial,
    devices: Devices,
) -> str:
    """Find settings with which a training fits, those that change results last.

    Args:
        group: "finetuning" or "unlearning".
        label: the training's.
        found: what it needs.
        settings: with which it does not fit.
        trial: see ``Trial``.
        devices: that may be used.

    Returns:
        A sentence.
    """
    for changes in _changes(group, settings, devices):
        if _held(found, settings, changes) > devices.memory:
            continue  # without activations it is too large
        if verdict(trial(changes), devices) == "fits":
            named = ",".join(f"{group}.{name}={value}" for name, value in _written(changes))
            return f"{label} fits with --params {named}"
    lora = " and LoRA" if group == "unlearning" else ""
    return (
        f"{label} does not fit, even with gradient_checkpointing, micro_batch_size=1, all devices"
        f"{lora}: it needs more devices, or larger ones"
    )


def _changes(
    group: str, settings: OptimiserParameters, devices: Devices
) -> Iterator[dict[str, Any]]:
    numbers = [settings.workers]
    while 2 * numbers[-1] <= devices.n_devices:
        numbers.append(2 * numbers[-1])
    adapters: list[dict[str, Any]] = [{}]
    if group == "unlearning" and not settings.lora:
        adapters.append({"lora": LoraParameters()})
    for lora in adapters:
        for number in numbers:
            for smaller in SMALLER:
                many = {} if number == settings.workers else {"workers": number}
                changes = many | smaller | lora
                if any(getattr(settings, name, None) != value for name, value in changes.items()):
                    yield changes


def _held(found: Needs, settings: OptimiserParameters, changes: dict[str, Any]) -> float:
    """Count the bytes of a device that changes leave, as far as that needs no trial.

    It holds all weights before workers share them.
    """
    workers = changes.get("workers", settings.workers)
    shares = settings.sharding == "full"
    whole = found.weights * (settings.workers if shares else 1)
    parts = workers / settings.workers if shares else 1
    trained = 0 if "lora" in changes else found.gradients + found.moments
    return max(whole, (found.weights + trained) / parts)


def _written(changes: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in changes.items():
        if isinstance(value, LoraParameters):
            yield "lora.rank", str(value.rank)
        else:
            yield name, str(value).lower()
