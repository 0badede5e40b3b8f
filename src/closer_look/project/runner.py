"""The order of a run: what has been made is used before anything else is begun."""

from __future__ import annotations

from collections.abc import Collection
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.project.node_log import nodes_logged

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline.node import Node
    from pluggy import PluginManager


class DepthFirstRunner(SequentialRunner):
    """Evaluates each model as soon as it is trained, and goes on with its next task from memory.

    Kedro's own order takes the first task of every method, then the second of every method: each
    model would be read from disk by each node that needs it.
    """

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager,
        run_id: str | None = None,
    ) -> None:
        ordered = _DepthFirst(pipeline.nodes)
        with (
            CausalLMDataset.models_handed_on(),
            nodes_logged(hook_manager, catalog, len(pipeline.nodes)),
        ):
            super()._run(ordered, catalog, hook_manager, run_id)

    def _suggest_resume_scenario(
        self, pipeline: Pipeline, done_nodes: Collection[Node], catalog: CatalogProtocol
    ) -> None:
        """Kedro's own names nodes to start from, which would do again what is done beside them."""
        if done_nodes:
            self._logger.warning(
                "%d of %d nodes are done; the same command with --only-missing-outputs goes on",
                len(done_nodes),
                len(pipeline.nodes),
            )


class _DepthFirst(Pipeline):
    @property
    def nodes(self) -> list[Node]:
        return depth_first(self)


def depth_first(pipeline: Pipeline) -> list[Node]:
    """Order nodes: what all share first, then one namespace after another, the newest next."""
    sorter = TopologicalSorter(pipeline.node_dependencies)
    sorter.prepare()
    ordered: list[Node] = []
    ready: list[Node] = []
    while sorter.is_active():
        ready += sorted(sorter.get_ready(), reverse=True)
        shared = [node for node in ready if node.namespace is None]
        near = [node for node in ready if ordered and node.namespace == ordered[-1].namespace]
        node = shared[0] if shared else (near or ready)[-1]
        ready.remove(node)
        ordered.append(node)
        sorter.done(node)
    return ordered
