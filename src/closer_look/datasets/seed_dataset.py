"""The dataset of a seed, which is in its name."""

from __future__ import annotations

from typing import Any, NoReturn

from kedro.io import AbstractDataset


class SeedDataset(AbstractDataset[NoReturn, int]):
    """A seed of the run: nodes that draw with it take it as an input, and nothing stores it.

    Example::

        "seed_{seed}":
          type: closer_look.datasets.seed_dataset.SeedDataset
          seed: "{seed}"
    """

    def __init__(self, *, seed: str | int, metadata: dict[str, Any] | None = None) -> None:
        """Set up.

        Args:
            seed: from the entry's name.
            metadata: for kedro-viz.
        """
        self._seed = int(seed)
        self.metadata = metadata

    def load(self) -> int:
        """Return the seed."""
        return self._seed

    def save(self, data: NoReturn) -> None:
        """Refuse: a seed is given, not made."""
        raise NotImplementedError("a seed is given by its name")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"seed": self._seed}
