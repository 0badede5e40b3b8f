"""The log of a run: a line as each node starts, and its costs when it is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from closer_look.project.dependencies import library_versions
from closer_look.system.costs import PeakMemory, describe_gpus, describe_machine

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline.node import Node
    from pluggy import PluginManager

NODE_COSTS = "node_costs"  # entry of the catalog

log = logging.getLogger(__name__)


@contextmanager
def nodes_logged(
    hook_manager: PluginManager,
    catalog: CatalogProtocol,
    n_nodes: int,
    number: Callable[[str], int] | None = None,
) -> Iterator[None]:
    """Log the nodes that run in the ``with`` block one after another, and record their costs.

    Args:
        hook_manager: of the nodes.
        catalog: where their costs are saved, if it has the entry.
        n_nodes: of the run.
        number: gives a node its number as it starts, by its name; if absent, they are counted.
    """
    with PeakMemory() as memory:
        node_log = _NodeLog(catalog, n_nodes, number or _counted(), memory)
        hook_manager.register(node_log)
        try:
            yield
        finally:
            hook_manager.unregister(node_log)


def stage_of(node: Node) -> str | None:
    """Return the stage that a node is tagged with."""
    from closer_look.reporting.results import STAGES

    return next((stage for stage in STAGES if stage in node.tags), None)


def _counted() -> Callable[[str], int]:
    numbers = count(1)
    return lambda _: next(numbers)


class _NodeLog:
    """Kedro hooks that log and time nodes; a node's time begins when the previous one has ended.

    So it includes loads and saves. The runner registers the hooks: only it knows how many nodes of
    a pipeline will run.
    """

    def __init__(
        self,
        catalog: CatalogProtocol,
        n_nodes: int,
        number: Callable[[str], int],
        memory: PeakMemory,
    ) -> None:
        self.catalog, self.n_nodes = catalog, n_nodes
        self.number, self.memory = number, memory
        self._start()

    def _start(self) -> None:
        self.started, self.clock = datetime.now(UTC), perf_counter()
        self.saved: set[str] = set()

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        log.info("[%d/%d] %s", self.number(node.name), self.n_nodes, node.name)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        self.saved.add(dataset_name)
        if self.saved < set(node.outputs):
            return
        if NODE_COSTS in self.catalog:
            self.catalog.save(NODE_COSTS, self._costs(node))
        self._start()

    def _costs(self, node: Node) -> dict[str, Any]:
        return {
            "node": node.name,
            "stage": stage_of(node),
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(perf_counter() - self.clock, 3),
            **self.memory.peaks_since_last_call(),
            "machine": describe_machine(),
            "gpus": describe_gpus(),
            "libraries": library_versions(),
        }
