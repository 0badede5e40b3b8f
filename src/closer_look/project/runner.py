"""The runner, which executes nodes depth first: a model is used before the next one is trained."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from graphlib import TopologicalSorter
from logging import Logger
from typing import TYPE_CHECKING

from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.project.node_log import nodes_logged

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline.node import Node
    from pluggy import PluginManager


ANEW = ("erasure", "verify")
"""Pipelines, and tags of their nodes, that do in each run what is due: none of it is left out."""


ELSEWHERE = ("take_model", "read_numbers")
"""Nodes that read what was made elsewhere: a fault there ends the run before it trains."""


class DepthFirstRunner(SequentialRunner):
    """A runner that evaluates each model right after its training and then trains its next task.

    So models are passed on in memory. Kedro's own order takes the first task of every method, then
    the second of every method; each node would read its model from disk.
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
        """Suggest ``--only-missing-outputs``, unless hooks refuse it; Kedro would repeat nodes."""
        if not pipeline.only_nodes_with_tags(*ANEW).nodes:
            suggest_resume(self._logger, len(done_nodes), len(pipeline.nodes))
        elif done_nodes:
            self._logger.warning("To go on, run the same command again")


def suggest_resume(log: Logger, n_done: int, n_nodes: int) -> None:
    """Say how to go on with a run that has ended before its time, if any node is done."""
    if n_done:
        log.warning(
            "%d of %d nodes are done; to resume, add --only-missing-outputs to the command",
            n_done,
            n_nodes,
        )


class _DepthFirst(Pipeline):
    """A pipeline that sorts and looks through its nodes once; Kedro asks after each node."""

    @cached_property
    def nodes(self) -> list[Node]:
        return depth_first(self)

    def inputs(self) -> set[str]:
        return self._free_inputs

    def outputs(self) -> set[str]:
        return self._free_outputs

    @cached_property
    def _free_inputs(self) -> set[str]:
        return super().inputs()

    @cached_property
    def _free_outputs(self) -> set[str]:
        return super().outputs()


def depth_first(pipeline: Pipeline) -> list[Node]:
    """Order nodes: shared ones first, then namespace by namespace, the newest ready one next.

    Before all of them come, as soon as they are ready, those that read what was made elsewhere.
    """
    sorter = TopologicalSorter(pipeline.node_dependencies)
    sorter.prepare()
    ordered: list[Node] = []
    ready: list[Node] = []
    while sorter.is_active():
        ready += sorted(sorter.get_ready(), reverse=True)
        # Shared nodes come first, then nodes of the namespace at work, then the newest others.
        elsewhere = [node for node in ready if node.name.rpartition(".")[2] in ELSEWHERE]
        shared = elsewhere or [node for node in ready if node.namespace is None]
        near = [node for node in ready if ordered and node.namespace == ordered[-1].namespace]
        node = shared[0] if shared else (near or ready)[-1]
        ready.remove(node)
        ordered.append(node)
        sorter.done(node)
    return ordered
