"""The dataset of the models that served requests have made, each in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.datasets.folder_dataset import FolderDataset
from closer_look.models.language_model import LanguageModel


class ServedModels:
    """Models by their SHA-256; a folder gets its name when it is whole."""

    def __init__(self, folder: Path | str, first: str) -> None:
        """Set up.

        Args:
            folder: holds the models' folders, or its URL.
            first: folder of the model before all requests, or its URL.
        """
        self.folder, self.first = folder, first

    def load(self, sha256: str | None) -> LanguageModel:
        """Read a model; None reads the one before all requests.

        It is read anew, for a training may have changed what is in memory.

        Raises:
            InputError: it is not there.
        """
        dataset = self._dataset(sha256)
        dataset.release()
        return dataset.load()

    def save(self, sha256: str, language_model: LanguageModel) -> None:
        """Save a model, whole or not at all.

        Raises:
            InputError: the disk has no room for it.
        """
        self._dataset(sha256).save(language_model)

    def place(self, sha256: str) -> Path | str:
        """Return the folder of a model that a request led to, or its URL."""
        return self._dataset(sha256).folder

    def _dataset(self, sha256: str | None) -> CausalLMDataset:
        place = self.first if sha256 is None else f"{self.folder}/{sha256[:16]}"
        return CausalLMDataset(filepath=place)


class ServedModelsDataset(FolderDataset):
    """A folder with the models that served requests have made.

    Example::

        served_models:
          type: closer_look.datasets.served_models_dataset.ServedModelsDataset
          filepath: data/06_models/people/erasure
          first: data/06_models/people/target
    """

    def __init__(self, *, first: str, **arguments: Any) -> None:
        """Set up.

        Args:
            first: folder of the model before all requests, or its URL.
            arguments: see ``FolderDataset``.
        """
        super().__init__(**arguments)
        self._first = first

    def load(self) -> ServedModels:
        """Return the models, none of which is read yet."""
        return ServedModels(super().load(), self._first)

    def _describe(self) -> dict[str, Any]:
        return super()._describe() | {"first": self._first}
