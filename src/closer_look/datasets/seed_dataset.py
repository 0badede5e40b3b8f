"""The dataset of a seed: a number that stands in its name."""

from __future__ import annotations

from typing import Any

from kedro.io.core import AbstractDataset, DatasetError


class SeedDataset(AbstractDataset[None, int]):
    """A seed of a run, for the nodes that draw with it; there is no file.

    Example::

        "seed_{seed}":
          type: closer_look.datasets.seed_dataset.SeedDataset
          seed: "{seed}"
    """

    def __init__(self, *, seed: str, metadata: dict[str, Any] | None = None) -> None:
        """Set up.

        Args:
            seed: the number.
            metadata: for kedro-viz.
        """
        self._seed = seed
        self.metadata = metadata

    def load(self) -> int:
        """Return the seed."""
        return int(self._seed)

    def save(self, data: None) -> None:
        """Refuse to save.

        Raises:
            DatasetError: always.
        """
        raise DatasetError("a seed is only read")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"seed": self._seed}
