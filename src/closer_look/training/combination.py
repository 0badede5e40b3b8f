"""How the losses of a step become its gradient: a weighted sum, or more than that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from closer_look.training.dual_optim import keep_apart
from closer_look.training.processes import rank, sum_gradients
from closer_look.training.sharding import whole

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from closer_look.parameters.methods import MethodParameters, PrimalDualParameters
    from closer_look.parameters.training import UnlearningParameters

DUAL = "dual.safetensors"


class PrimalDual:
    """A weight that learns: it grows while the retain loss is above its bound (arXiv 2506.05314).

    After each step ``weight = max(0, weight + step_size * (retain loss - retain_bound))``.
    """

    def __init__(
        self, parameters: PrimalDualParameters, weight: float, steps_per_epoch: float
    ) -> None:
        """Set up.

        Args:
            parameters: bound, step size and warm-up.
            weight: before the first step.
            steps_per_epoch: turns ``warmup_epochs`` into steps.
        """
        self.parameters = parameters
        self.weight = weight
        self.step = 0
        self.warmup_steps = math.ceil(parameters.warmup_epochs * steps_per_epoch)

    def update(self, retain_loss: float) -> None:
        """Change the weight after a step."""
        self.step += 1
        if self.step > self.warmup_steps:
            excess = retain_loss - self.parameters.retain_bound
            self.weight = max(0.0, self.weight + self.parameters.step_size * excess)


class Combination:
    """Makes the gradient of a step from the losses of its micro-batches.

    In a weighted sum, the losses are added. If gradients are merged, each side has a gradient of
    its own until the end of the step: the model's parameters hold that of the forget loss.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        merge: Callable[[Mapping[Parameter, Tensor]], dict[str, float]] | None = None,
        dual: PrimalDual | None = None,
    ) -> None:
        """Set up.

        Args:
            weights: name of a loss -> weight.
            merge: takes the retain gradients, (parameter -> gradient), and returns what to log;
                None for a weighted sum.
            dual: replaces the weight of the retain loss.
        """
        self.weights = dict(weights)
        self.merge = merge
        self.dual = dual
        self.retain_gradients: dict[Parameter, Tensor] = {}

    @classmethod
    def of(
        cls, method: MethodParameters, settings: UnlearningParameters, rows_per_epoch: int
    ) -> Combination:
        """Make the combination of a method."""
        weights = {f"{side}_loss": getattr(method, side).weight for side in method.losses}
        own, dual, merge = method.combination, None, None
        if own and own.kind == "primal_dual":
            steps_per_epoch = rows_per_epoch / settings.batch_size
            dual = PrimalDual(own, method.retain.weight, steps_per_epoch)
        elif own:
            merge = project_conflicts
        if settings.optimiser == "dual_optim" and method.retain:
            merge = partial(keep_apart, max_norm=settings.max_grad_norm)
        return cls(weights, merge, dual)

    def start_step(self) -> None:
        """Forget the gradients of the step before, or of an attempt that ran out of memory."""
        self.retain_gradients = {}

    def total(self, losses: Mapping[str, Tensor], trained: Iterable[Parameter]) -> Tensor:
        """Return the weighted sum of a micro-batch's losses; its gradient is what is left to add.

        If gradients are merged, that of the retain loss is made here. It goes through ``grad``, as
        sharded parameters have it there alone.

        Args:
            losses: name -> scalar, what the micro-batch adds to the loss of the step.
            trained: the parameters that are trained.
        """
        weights = self.weights | ({"retain_loss": self.dual.weight} if self.dual else {})
        weighted = {name: weights[name] * loss for name, loss in losses.items()}
        if self.merge is None:
            return sum(weighted.values())
        retain = weighted["retain_loss"]
        trained = [one for one in trained if one.requires_grad]
        of_forget = [one.grad for one in trained]
        for parameter in trained:
            parameter.grad = self.retain_gradients.get(parameter)
        retain.backward(retain_graph=True)
        for parameter, gradient in zip(trained, of_forget, strict=True):
            if parameter.grad is not None:
                self.retain_gradients[parameter] = parameter.grad
            parameter.grad = gradient
        return weighted["forget_loss"] + retain.detach()

    def sum_over_processes(self, parameters: Iterable[Parameter]) -> None:
        """Add up the gradients of all processes, each of which holds whole weights."""
        trained = [one for one in parameters if one.requires_grad]
        held = {one: one.grad for one in trained if one.grad is not None}
        total = sum_gradients(trained, held)
        for one in trained:
            one.grad = total.get(one)
        if self.merge:
            self.retain_gradients = sum_gradients(trained, self.retain_gradients)

    def end_step(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Merge the gradients of a step, and let the dual weight learn from its retain loss.

        Returns:
            What to log of the step: the ``retain_weight`` that it had, if it changes, and the
            ``retain_gradient_norm``, if that gradient stays apart.
        """
        logged = self.merge(self.retain_gradients) if self.merge else {}
        if self.dual is None:
            return logged
        weight = self.dual.weight
        self.dual.update(losses["retain_loss"].item())
        return logged | {"retain_weight": weight}

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint."""
        if self.dual and rank() == 0:
            state = torch.tensor([self.dual.weight, self.dual.step], dtype=torch.float64)
            save_file({"state": state}, folder / DUAL)

    def load(self, folder: Path) -> None:
        """Read the state of a checkpoint."""
        if self.dual:
            weight, step = load_file(folder / DUAL)["state"].tolist()
            self.dual.weight, self.dual.step = weight, int(step)


def project_conflicts(retain_gradients: Mapping[Parameter, Tensor]) -> dict[str, float]:
    """Add the retain gradient to what of the forget gradient does not conflict with it.

    If their dot product over all parameters is negative, the forget gradient f becomes
    ``f - (f . r / r . r) r`` (arXiv 2001.06782, algorithm 1, for one of the two tasks alone, as in
    arXiv 2503.09117).

    Args:
        retain_gradients: parameter -> gradient r; the parameters hold f, and then the sum.
    """
    both = [(one, r) for one, r in retain_gradients.items() if one.grad is not None]
    dot = sum(whole((one.grad * r).sum()) for one, r in both)
    length = sum(whole((r * r).sum()) for r in retain_gradients.values())
    scale = min(float(dot / length), 0.0) if length else 0.0
    for parameter, r in retain_gradients.items():
        added = (1 - scale) * r
        parameter.grad = added if parameter.grad is None else parameter.grad + added
    return {}
