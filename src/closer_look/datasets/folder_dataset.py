"""A folder as a catalog entry, for what the library keeps in files of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset, DatasetError


class FolderDataset(AbstractDataset[None, Path]):
    """A folder that fills itself, such as a cache.

    Example::

        reference_cache:
          type: closer_look.datasets.folder_dataset.FolderDataset
          filepath: data/05_model_input/reference_cache
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe where the folder is.

        Args:
            filepath: a folder; it need not be there.
            metadata: for kedro-viz.
        """
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> Path:
        """Its path: who is given it reads and writes the files by itself."""
        return Path(self._filepath)

    def save(self, data: None) -> None:
        """The folder is never given, it fills itself."""
        raise DatasetError(f"{self._filepath} fills itself")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class CheckpointsDataset(FolderDataset):
    """Where the training of a node goes on, if its process dies before its outputs are saved.

    Example::

        finetuning_checkpoints:
          type: closer_look.datasets.folder_dataset.CheckpointsDataset
          filepath: data/06_models/main/target.checkpoints
    """

    def remove(self) -> None:
        """Free the space, now that the outputs are there."""
        shutil.rmtree(self._filepath, ignore_errors=True)
