"""Checkpoints of a training, from which it resumes after it was killed.

They are temporary files of the run, deleted once the trained model is saved. Only the run's own
checkpoints are read. The Trainer loads optimiser and random states with ``torch.load`` and
``weights_only``: tensors and numbers, no code.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import accelerate
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from closer_look.errors import InputError
from closer_look.models.language_model import (
    SPARE_BYTES,
    LanguageModel,
    computation_fingerprint,
    saved_bytes,
)
from closer_look.training.processes import of_first, rank

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerState

HANDED_OVER = "workers"  # beside the checkpoints: what the processes of a training get and give
EPOCH_START = "epoch_start.safetensors"  # random state from which the epoch's order is drawn


log = logging.getLogger(__name__)


@contextmanager
def training_folder(parent: Path | None, key: Callable[[], str]) -> Iterator[Path]:
    """Provide the folder of one training, which survives a crash of the process.

    Folders of other trainings under ``parent`` are deleted. Where several processes train, they
    share the folder; the first of them makes it.

    Args:
        parent: holds the folder; the caller deletes it in the end. None: a temporary folder.
        key: gives a name that no other training has (``training_key``).
    """
    if parent is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    folder = parent / key()
    if rank() == 0:
        for other in set(parent.glob("*")) - {folder, parent / HANDED_OVER}:
            shutil.rmtree(other)
        folder.mkdir(parents=True, exist_ok=True)
    folder = of_first(folder)
    try:
        yield folder
    except InputError:  # resuming would only fail again
        if rank() == 0:
            shutil.rmtree(parent)
        raise


def training_key(
    language_model: LanguageModel, rows: Sequence[Mapping[str, object]], *settings: object
) -> str:
    """Hash everything that determines a training: model, rows, settings, code, library versions.

    This takes about a second for each GB of weights.
    """
    digest = hashlib.sha256(computation_fingerprint(language_model).encode())
    for value in (*library_versions(), *settings, *(one for row in rows for one in row.items())):
        digest.update(_content(value))
    return digest.hexdigest()


def library_versions() -> tuple[str, ...]:
    """Return the versions of the libraries that compute in a model and its training."""
    return tuple(library.__version__ for library in (torch, transformers, accelerate, peft))


def _content(value: object) -> bytes:
    if isinstance(value, tuple):
        return b"".join(map(_content, value))
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)}".encode() + value.contiguous().cpu().numpy().tobytes()
    return f"{value!r}\n".encode()


class Checkpoints(TrainerCallback):
    """Asks the Trainer for a checkpoint at intervals, if the disk has room for one."""

    def __init__(
        self, folder: Path, minutes: float | None, description: str, moments: int = 2
    ) -> None:
        """Set up.

        Args:
            folder: folder of this training.
            minutes: interval between checkpoints; None for no checkpoints.
            description: name of the training, for the log.
            moments: tensors that the optimiser keeps of each trained weight.
        """
        self.folder = folder
        self.partial = folder / "partial"  # where the Trainer writes; never read
        self.minutes = minutes
        self.description = description
        self.copies = moments + 1  # with that of the guard
        self.latest = of_first(get_last_checkpoint(folder))
        """Folder of the checkpoint to resume from, if any."""
        if rank() == 0:
            shutil.rmtree(self.partial, ignore_errors=True)

    def on_train_begin(self, args, state, control, **kwargs):
        """Log the step at which a training resumes."""
        self.last_written = monotonic()
        if state.global_step and rank() == 0:
            log.info(
                "%s: resumed at step %s of %s", self.description, state.global_step, state.max_steps
            )

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Restore, when resuming, the random state from which the epoch's order was drawn."""
        if self.latest:
            torch.set_rng_state(load_file(Path(self.latest, EPOCH_START))["random"])
            self.latest = None
        self.epoch_start = of_first(torch.get_rng_state())
        torch.set_rng_state(self.epoch_start)  # all processes draw the same order

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Ask for a checkpoint if the interval has passed."""
        if self.minutes is None or control.should_training_stop:
            return
        if of_first(monotonic() - self.last_written >= self.minutes * 60):
            self.last_written = monotonic()
            control.should_save = of_first(self._has_room(model))

    def _has_room(self, model: PreTrainedModel) -> bool:
        trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        needed = saved_bytes(model) + self.copies * trained + SPARE_BYTES
        free = shutil.disk_usage(self.folder).free
        if free < needed and rank() == 0:
            log.warning(
                "%s: no checkpoint: it may need %s MB, but %s has %s MB left",
                self.description,
                f"{needed / 2**20:,.0f}",
                self.folder,
                f"{free / 2**20:,.0f}",
            )
        return free >= needed

    def written(self, state: TrainerState) -> Path:
        """Return the folder of the checkpoint that the Trainer has just written."""
        return self.partial / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"

    def complete(self, state: TrainerState) -> None:
        """Rename the finished checkpoint to its final name, and delete the previous one."""
        written = self.written(state)
        begun = not state.epoch.is_integer()
        random = self.epoch_start if begun else torch.get_rng_state()
        save_file({"random": random}, written / EPOCH_START)
        older = list(self.folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
        written.rename(self.folder / written.name)
        for folder in older:
            shutil.rmtree(folder)
