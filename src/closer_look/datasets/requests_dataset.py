"""The dataset of requests to forget: a folder of JSON files, which may be empty or missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fsspec
from kedro_datasets.partitions import PartitionedDataset


class RequestFiles(dict[str, Callable[[], str]]):
    """Name of a file, without its ending -> a function that reads its text."""

    def __init__(self, files: dict[str, Callable[[], str]], folder: str) -> None:
        """Set up."""
        super().__init__(files)
        self.folder = folder

    def remove(self, name: str) -> None:
        """Delete a file."""
        filesystem, path = fsspec.url_to_fs(f"{self.folder}/{name}{ENDING}")
        filesystem.rm(path)


ENDING = ".json"


class RequestsDataset(PartitionedDataset):
    """A ``PartitionedDataset`` of texts in JSON files.

    Example::

        requests:
          type: closer_look.datasets.requests_dataset.RequestsDataset
          path: data/01_raw/requests
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Set up.

        Args:
            path: the folder, or its URL.
            metadata: settings for kedro-viz.
        """
        super().__init__(
            path=path, dataset="text.TextDataset", filename_suffix=ENDING, metadata=metadata
        )

    def load(self) -> RequestFiles:
        """List the files."""
        self._invalidate_caches()
        return RequestFiles(super().load() if self._list_partitions() else {}, self._path)
