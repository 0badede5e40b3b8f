"""Removal of what killed runs have left behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from closer_look.datasets.folder_dataset import CheckpointsDataset, FolderDataset

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

PARTIAL, REPLACED = ".partial", ".replaced"


def remove_leftovers(pipeline: Pipeline, catalog: CatalogProtocol, kept: Iterable[Node]) -> None:
    """Remove half-written files, and checkpoints of trainings whose models are there.

    The caller holds the lock of the run: no other process writes these files. Only the reference
    cache is shared between runs; there, files of processes that live are spared.

    Args:
        pipeline: the nodes of the run.
        catalog: where their outputs are.
        kept: nodes whose outputs are all there.
    """
    for name in pipeline.datasets():
        for path in _half_written(catalog.get(name)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for node in kept:
        for dataset in map(catalog.get, node.inputs):
            if isinstance(dataset, CheckpointsDataset):
                dataset.remove()


def _half_written(dataset: object) -> Iterator[Path]:
    filepath = getattr(dataset, "_filepath", None)
    if filepath is None or "://" in str(filepath):
        return
    path = Path(filepath)
    if type(dataset) is FolderDataset:  # with files of any run, by the numbers of their processes
        yield from (file for file in path.glob(f"*{PARTIAL}") if not _is_at_work(file))
        return
    yield from path.parent.glob(f"{path.name}*{PARTIAL}")
    yield from path.parent.glob(f"{path.name}{REPLACED}")
    yield from path.glob(f"*/*{PARTIAL}")  # of a version


def _is_at_work(file: Path) -> bool:
    number = file.name.removesuffix(PARTIAL).rpartition(".")[2]
    return number.isdigit() and psutil.pid_exists(int(number))
