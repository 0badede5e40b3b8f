"""Datasets of folders whose files the library writes itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset, DatasetError

from closer_look.system.storage import is_url, working_folder


class FolderDataset(AbstractDataset[None, Path | str]):
    """A folder that its user fills, such as a cache.

    Example::

        reference_cache:
          type: closer_look.datasets.folder_dataset.FolderDataset
          filepath: data/05_model_input/reference_cache
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Set up.

        Args:
            filepath: path or URL of the folder, which need not exist.
            metadata: settings for kedro-viz.
        """
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> Path | str:
        """Return the path, or the URL as text; the caller reads and writes the files."""
        return self._filepath if is_url(self._filepath) else Path(self._filepath)

    def save(self, data: None) -> None:
        """Refuse to save: nodes write into the folder themselves."""
        raise DatasetError(f"{self._filepath} is not saved by Kedro; write into the folder")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class CheckpointsDataset(FolderDataset):
    """The checkpoints of a node's training, to resume from if the process dies.

    They stay on this machine: instead of a URL, a folder in its cache holds them, so a training
    that another machine takes up begins anew.

    Example::

        finetuning_checkpoints:
          type: closer_look.datasets.folder_dataset.CheckpointsDataset
          filepath: data/06_models/main/target.checkpoints
    """

    def load(self) -> Path:
        """Return the folder on this machine."""
        return working_folder(self._filepath)

    def remove(self) -> None:
        """Delete the checkpoints, once the node's outputs are saved."""
        shutil.rmtree(self.load(), ignore_errors=True)


class StudyDataset(FolderDataset):
    """The study of a method's tuning: its trials, which a run that was killed takes up again.

    It is kept beside the run's results. Like checkpoints, it stays on this machine.

    Example::

        "{scenario}.{cell}.study":
          type: closer_look.datasets.folder_dataset.StudyDataset
          filepath: data/07_model_output/people/{scenario}/{cell}/study
    """

    def load(self) -> Path:
        """Return the folder on this machine."""
        return working_folder(self._filepath)
