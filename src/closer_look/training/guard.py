"""The guard that ends a task when a loss crosses its bound, and restores the best weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from closer_look.training.processes import rank
from closer_look.training.sharding import as_parts, part, whole_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerState

    from closer_look.parameters.training import UnlearningParameters

KEPT = "kept.safetensors"
BEFORE = "the model before the task: nothing was forgotten"

log = logging.getLogger(__name__)


class Guard:
    """Ends a task when its losses cross ``stop_when`` or ``max_retain_loss``.

    With ``max_retain_loss`` it keeps a copy of the best weights in CPU memory, 4 bytes per trained
    weight: those after the epoch with the lowest mean forget loss, and until there are any, those
    before the task. Where weights are shared out, each process keeps its part. The retain loss of a
    step belongs to the weights before that step. So the weights after an epoch are copied at the
    first step of the next one, if they are in bounds.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        parameters: UnlearningParameters,
        rows_per_epoch: int,
        description: str,
    ) -> None:
        """Copy the weights before the task, if ``max_retain_loss`` is set.

        Args:
            model: the model that is trained.
            parameters: hold the bounds.
            rows_per_epoch: rows of the plan in one epoch.
            description: name of the task, for the log.
        """
        self.stop_when = parameters.stop_when
        self.max_retain_loss = parameters.max_retain_loss
        self.description = description
        self.epoch_ends = {
            math.ceil(epoch * rows_per_epoch / parameters.batch_size): epoch
            for epoch in range(1, parameters.epochs + 1)
        }
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.kept: dict[str, torch.Tensor] = {}
        self.kept_step = 0
        """The step after which the kept weights were copied."""
        self.passed = False
        if self.max_retain_loss is not None:
            self._keep(0)

    def ends(self, state: TrainerState, losses: Mapping[str, torch.Tensor]) -> bool:
        """Check the losses of the current step, and copy the weights if they are the best so far.

        Args:
            state: state of the Trainer, with the log of earlier steps.
            losses: ``forget_loss`` and ``retain_loss`` of this step.

        Returns:
            True if the task ends with this step.
        """
        step = state.global_step + 1
        where = f"at step {step} of {state.max_steps}"
        if self.max_retain_loss is not None and "retain_loss" in losses:
            retain_loss = losses["retain_loss"].item()
            if retain_loss > self.max_retain_loss:
                log.warning(
                    "%s: retain loss %.4g %s is above max_retain_loss %g; the model is %s",
                    *(self.description, retain_loss, where, self.max_retain_loss, self._kept_name),
                )
                self.passed = True
                return True
            self._keep_if_best(state)
        if self.stop_when is not None:
            forget_loss = losses["forget_loss"].item()
            if forget_loss < self.stop_when:
                log.info(
                    "%s: forget loss %.4g %s is below stop_when %g; the task ends there",
                    *(self.description, forget_loss, where, self.stop_when),
                )
                return True
        return False

    def restore(self) -> float:
        """Restore the kept weights, if the retain loss crossed its bound.

        Returns:
            The last step that the model's weights include; infinity if they include all.
        """
        if not self.passed:
            return math.inf
        self._copy(self.kept, self._parts())
        return self.kept_step

    def save(self, folder: Path) -> None:
        """Write the kept weights into a checkpoint."""
        if self.kept:
            kept = {
                name: whole_of(one, self.trained[name]).cpu() for name, one in self.kept.items()
            }
            if rank() == 0:
                save_file(kept | {"step": torch.tensor(self.kept_step)}, folder / KEPT)

    def load(self, folder: Path) -> None:
        """Read the kept weights of a checkpoint."""
        if self.kept:
            kept = load_file(folder / KEPT)
            self.kept_step = int(kept.pop("step"))
            self._copy(
                {name: part(as_parts(one, self.trained[name])) for name, one in kept.items()},
                self.kept,
            )

    @property
    def _kept_name(self) -> str:
        epoch = self.epoch_ends.get(self.kept_step)
        return f"that after epoch {epoch} of {max(self.epoch_ends.values())}" if epoch else BEFORE

    def _keep_if_best(self, state: TrainerState) -> None:
        step = state.global_step
        if step in self.epoch_ends:
            best = self._forget_loss(state, self.kept_step) if self.kept_step else math.inf
            if self._forget_loss(state, step) < best:
                self._keep(step)

    def _forget_loss(self, state: TrainerState, end: int) -> float:
        """Average the forget loss over the epoch that ended with the given step."""
        start = max((step for step in self.epoch_ends if step < end), default=0)
        return fmean(entry["forget_loss"] for entry in state.log_history[start:end])

    def _keep(self, step: int) -> None:
        self.kept_step = step
        if not self.kept:
            self.kept = {
                name: torch.empty_like(one, device="cpu") for name, one in self._parts().items()
            }
        self._copy(self._parts(), self.kept)

    def _parts(self) -> dict[str, torch.Tensor]:
        return {name: part(one.detach()) for name, one in self.trained.items()}

    @staticmethod
    @torch.no_grad()
    def _copy(source: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
        for name, weight in target.items():
            weight.copy_(source[name])
