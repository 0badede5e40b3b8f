"""Removal of what killed runs have left behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kedro.io.core import AbstractVersionedDataset

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.datasets.folder_dataset import CheckpointsDataset, FolderDataset
from closer_look.datasets.places import place_of
from closer_look.datasets.reference_scores_dataset import ReferenceScoresDataset
from closer_look.system import whole_folders
from closer_look.system.processes import PARTIAL, is_being_written
from closer_look.system.storage import is_url

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

REPLACED = ".replaced"
OF_SEVERAL_OBJECTS = (CausalLMDataset, ReferenceScoresDataset)  # where they are in a bucket


def remove_leftovers(pipeline: Pipeline, catalog: CatalogProtocol, kept: Iterable[Node]) -> None:
    """Remove half-written files, and checkpoints of trainings whose models are there.

    The caller holds the lock of the run: no other process writes these files. Only the reference
    cache is shared between runs; there, files of processes at work are spared.

    Args:
        pipeline: the nodes of the run.
        catalog: where their outputs are. Of the inputs, only folders in which nodes write are
            looked through: the others may be the user's own.
        kept: nodes whose outputs are all there.
    """
    outputs = pipeline.all_outputs()
    for name in sorted(pipeline.datasets()):
        dataset = catalog.get(name)
        if name in outputs or isinstance(dataset, FolderDataset):
            _remove_half_written(dataset)
    for node in kept:
        for dataset in map(catalog.get, node.inputs):
            if isinstance(dataset, CheckpointsDataset):
                dataset.remove()


def remove_part_of_node(node: Node, catalog: CatalogProtocol) -> None:
    """Remove what a process that died had saved of a node's outputs: the node makes them anew.

    Kedro saves no version twice, hence whole ones go, too.
    """
    for name in node.outputs:
        dataset = catalog.get(name)
        _remove_half_written(dataset)
        if isinstance(dataset, AbstractVersionedDataset) and dataset._version:
            path = str(dataset._get_versioned_path(dataset.resolve_save_version()))
            if dataset._fs.exists(path):
                dataset._fs.rm(path, recursive=True)
            dataset.release()


def _remove_half_written(dataset: object) -> None:
    if isinstance(dataset, OF_SEVERAL_OBJECTS) and is_url(place_of(dataset)):
        whole_folders.remove_others(place_of(dataset))
    for path in _half_written(dataset):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _half_written(dataset: object) -> Iterator[Path]:
    filepath = place_of(dataset)
    if not filepath or is_url(filepath):
        return
    path = Path(filepath)
    if type(dataset) is FolderDataset:  # with files of any run
        yield from (file for file in path.glob(f"*{PARTIAL}") if not is_being_written(file))
        return
    yield from path.parent.glob(f"{path.name}*{PARTIAL}")
    yield from path.parent.glob(f"{path.name}{REPLACED}")
    yield from path.glob(f"*/*{PARTIAL}")  # of a version
