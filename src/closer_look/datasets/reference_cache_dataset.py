"""The reference cache as a catalog entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset, DatasetError

from closer_look.reference_cache import ReferenceCache


class ReferenceCacheDataset(AbstractDataset[None, ReferenceCache]):
    """A folder that fills itself.

    Example::

        reference_cache:
          type: closer_look.datasets.reference_cache_dataset.ReferenceCacheDataset
          filepath: data/05_model_input/reference_cache
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe where the cache is.

        Args:
            filepath: a folder; it need not be there.
            metadata: for kedro-viz.
        """
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> ReferenceCache:
        """The cache, which reads and writes its files by itself."""
        return ReferenceCache(Path(self._filepath))

    def save(self, data: None) -> None:
        """The cache is never given, it fills itself."""
        raise DatasetError(f"{self._filepath} fills itself")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
