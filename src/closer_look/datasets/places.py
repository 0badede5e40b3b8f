"""Where a dataset keeps its content, as a path or a URL."""

from __future__ import annotations

from pathlib import PurePosixPath

from kedro.io import AbstractDataset

from closer_look.system.storage import MARK


def place_of(dataset: AbstractDataset, path: str | PurePosixPath | None = None) -> str:
    """Return the path of a dataset, as a URL if it is not on this machine.

    Args:
        dataset: of this project or of Kedro, which stores protocol and path apart.
        path: of a version; by default that of the whole dataset.

    Returns:
        "" if the dataset has no path.
    """
    path = str(getattr(dataset, "_filepath", "") if path is None else path)
    protocol = getattr(dataset, "_protocol", "file")
    return path if protocol == "file" or MARK in path else f"{protocol}{MARK}{path}"
