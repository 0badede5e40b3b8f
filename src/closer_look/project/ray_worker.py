"""What the processes of a Ray cluster do for a run: its nodes, and the journal of all of them."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from kedro.framework import project
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.io import AbstractDataset
from kedro.runner.task import Task

from closer_look.project.dependencies import dataset_fingerprints
from closer_look.project.leftovers import remove_part_of_node
from closer_look.project.node_log import nodes_logged
from closer_look.project.session import find_fault
from closer_look.system.fingerprints import Fingerprint, remember

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline.node import Node
    from ray import ObjectRef
    from ray.actor import ActorHandle


class RunSettings(NamedTuple):
    """What is the same for all nodes of a run."""

    package: str
    """Name of the project's package, in which Kedro finds the settings and hooks."""
    logging: dict[str, Any]
    """Configuration of the loggers; their handlers stay with the process that was started."""
    folder: str
    """Where that process runs: relative names of models count from there."""
    n_nodes: int
    run_id: str | None
    is_async: bool


class Journal:
    """An actor that writes the lines of all nodes, and keeps log records for who asks for them."""

    def __init__(self, datasets: Mapping[str, AbstractDataset]) -> None:
        """Set up.

        Args:
            datasets: entries of the catalog to which lines are added, by name.
        """
        self.datasets = datasets
        self.numbers: dict[str, int] = {}
        self.records: list[logging.LogRecord] = []

    def number(self, node: str) -> int:
        """Count a node that begins, from 1; one that is begun again keeps its number."""
        return self.numbers.setdefault(node, len(self.numbers) + 1)

    def save(self, name: str, line: dict[str, Any]) -> None:
        """Add a line to a dataset; when this returns, it is written."""
        self.datasets[name].save(line)

    def log(self, record: logging.LogRecord) -> None:
        """Keep a log record."""
        self.records.append(record)

    def take(self) -> list[logging.LogRecord]:
        """Hand out the log records that nobody has taken yet."""
        taken, self.records = self.records, []
        return taken


class LinesDataset(AbstractDataset[dict[str, Any], NoReturn]):
    """A dataset of lines, as a worker has it: the journal writes them."""

    def __init__(self, journal: ActorHandle, name: str) -> None:
        """Set up.

        Args:
            journal: an actor.
            name: of the dataset in the catalog.
        """
        self._journal, self._name = journal, name

    def load(self) -> NoReturn:
        """Refuse: nodes take what they read by another entry."""
        raise NotImplementedError

    def save(self, data: dict[str, Any]) -> None:
        """Add a line, and wait until it is written."""
        _answer(self._journal.save.remote(self._name, data))

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name}


def run_node(
    node: Node,
    catalog: CatalogProtocol,
    journal: ActorHandle,
    settings: RunSettings,
    known: Sequence[Fingerprint],
    n_deaths: int,
) -> dict[str, Fingerprint]:
    """Run a node in this process, with the project's hooks.

    Args:
        node: to run.
        catalog: what it takes and makes.
        journal: actor of the run.
        settings: of the run.
        known: fingerprints of its inputs, which need not be computed again.
        n_deaths: how many workers have died while they ran the node.

    Returns:
        Fingerprints of its outputs, by name.

    Raises:
        InputError: an input is at fault.
    """
    # Loading and training collect garbage; they need not look through all that stays imported.
    gc.collect()
    gc.freeze()
    os.chdir(settings.folder)
    if project.PACKAGE_NAME is None:
        project.configure_project(settings.package)
    for fingerprint in known:
        remember(fingerprint)
    hook_manager = _create_hook_manager()
    _register_hooks(hook_manager, project.settings.HOOKS)
    with _logging_to(journal, settings.logging):
        if n_deaths:
            remove_part_of_node(node, catalog)
        try:
            with nodes_logged(hook_manager, catalog, settings.n_nodes, partial(_number, journal)):
                Task(node, catalog, settings.is_async, hook_manager, settings.run_id).execute()
        except Exception as error:
            fault = find_fault(error)  # here, as Ray leaves an error's causes behind
            if fault is None:
                raise
            raise fault from None
    return dataset_fingerprints(node.outputs, catalog)


def _number(journal: ActorHandle, node: str) -> int:
    return _answer(journal.number.remote(node))


@contextmanager
def _logging_to(journal: ActorHandle, configuration: dict[str, Any]) -> Iterator[None]:
    """Send the log records of the ``with`` block to the journal, and nowhere else."""
    project.configure_logging(configuration)
    for name in (None, *configuration.get("loggers", ())):
        logging.getLogger(name).handlers.clear()
    handler = _ToJournal(journal)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


class _ToJournal(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        _answer(self.queue.log.remote(record))


def _answer(reference: ObjectRef) -> Any:
    """Wait for the journal; ``ray.get`` would lend the CPUs of this node to another meanwhile."""
    return reference.future().result()
