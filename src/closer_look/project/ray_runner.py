"""The runner that shares the nodes of a run out over the processes of a Ray cluster.

Nodes pass everything on by the catalog, as they do in one process: nothing large travels through
Ray. A worker loads what its node takes, and saves what it makes.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from graphlib import TopologicalSorter
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kedro.framework import project
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner

from closer_look.errors import InputError, first_line
from closer_look.parameters.groups import as_model
from closer_look.project.dependencies import dataset_fingerprints
from closer_look.project.hooks import ProvenanceHooks
from closer_look.project.node_log import NODE_COSTS, stage_of
from closer_look.project.provenance import PROVENANCE
from closer_look.project.ray_cluster import (
    check_machines,
    check_room,
    connected,
    resources_of,
    starts_workers,
)
from closer_look.project.ray_worker import Journal, LinesDataset, RunSettings, run_node
from closer_look.project.runner import suggest_resume
from closer_look.project.tracking import TENSORBOARD
from closer_look.system.cluster import thread_variables
from closer_look.system.fingerprints import remember

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from kedro.io import CatalogProtocol
    from kedro.pipeline.node import Node
    from pluggy import PluginManager
    from ray import ObjectRef
    from ray.exceptions import RayError

    from closer_look.parameters.engine import EngineParameters

LINES = (PROVENANCE, NODE_COSTS)  # entries of the catalog that grow with each node
SECONDS_BETWEEN_LINES = 0.5  # of the log, while no node ends
SEES_NO_GPU = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}  # a task of Ray that asks for none
SECONDS_TO_END = 10  # for nodes of a run that is broken off; then they are killed

log = logging.getLogger(__name__)


class RayRunner(AbstractRunner):
    """A runner for which each node is a task of Ray, begun as soon as its inputs are there.

    The parameters ``engine`` say on which cluster, and what a node takes of a machine. The numbers
    are those of one process. A node whose worker dies is begun again.
    """

    def __init__(self, is_async: bool = False) -> None:
        """Set up.

        Args:
            is_async: load and save in threads, as Kedro's other runners do.

        Raises:
            InputError: Ray is not installed.
        """
        if find_spec("ray") is None:
            raise InputError("--runner=RayRunner needs Ray: pip install 'closer-look[cluster]'")
        super().__init__(is_async=is_async)

    def _get_executor(self, max_workers: int) -> Executor | None:
        return None

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager,
        run_id: str | None = None,
    ) -> None:
        """Run the nodes.

        Raises:
            InputError: a parameter of ``engine``, the cluster or an input of a node is at fault.
        """
        given = catalog.load("params:engine") if "params:engine" in catalog else {}
        engine = as_model("engine", given or {})
        _check_all_in_files(pipeline, catalog)
        if not pipeline.nodes:
            return
        environment = {"env_vars": thread_variables(engine.threads or _torch_threads())}
        with connected(engine):
            resources = resources_of(pipeline, catalog, engine)
            check_room(resources)
            check_machines(catalog, environment)
            settings = RunSettings(
                package=project.PACKAGE_NAME,
                logging=project.LOGGING.data,
                folder=os.getcwd(),
                n_nodes=len(pipeline.nodes),
                run_id=run_id,
                is_async=self._is_async,
            )
            _Work(pipeline, catalog, hook_manager, engine, resources, settings, environment).do()


class _Work:
    """The nodes of a run: those that wait for others, those at work and those that are done."""

    def __init__(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager,
        engine: EngineParameters,
        resources: Mapping[Node, dict[str, float]],
        settings: RunSettings,
        environment: Mapping[str, Any],
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.catalog, self.n_retries = catalog, engine.retries
        self.resources, self.settings = resources, settings
        self.provenance = [p for p in hook_manager.get_plugins() if isinstance(p, ProvenanceHooks)]
        self.with_workers = {node for node in pipeline.nodes if starts_workers(node, catalog)}
        self.order = TopologicalSorter(pipeline.node_dependencies)
        self.ready: list[Node] = []
        self.at_work: dict[ObjectRef, Node] = {}
        self.n_done = 0
        self.deaths: Counter[Node] = Counter()
        self.run_node = ray.remote(max_retries=0)(run_node)
        self.variables = environment["env_vars"]
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "scheduling_strategy": here, "runtime_env": environment}
        self.journal = ray.remote(**options)(Journal).remote(
            {name: catalog[name] for name in LINES if name in catalog}
        )

    def do(self) -> None:
        """Do all of it; if a node fails, end those at work."""
        import ray

        self.order.prepare()
        try:
            self._begin_those_ready()
            while self.at_work:
                ended, _ = ray.wait([*self.at_work], timeout=SECONDS_BETWEEN_LINES)
                self._log_lines()
                for task in ended:
                    self._end(task)
                self._begin_those_ready()
            self._log_lines()
        except BaseException:
            self._break_off()
            suggest_resume(log, self.n_done, self.settings.n_nodes)
            raise
        finally:
            ray.kill(self.journal)

    def _begin_those_ready(self) -> None:
        """Begin all nodes whose inputs are there, but one at a time of those that start workers.

        Such a node asks for nothing: Ray would begin them all, and each loads a model.
        """
        self.ready.extend(sorted(self.order.get_ready()))
        for node in [*self.ready]:
            others = self.with_workers.intersection(self.at_work.values())
            if node not in self.with_workers or not others:
                self.ready.remove(node)
                self._begin(node)

    def _begin(self, node: Node) -> None:
        """Hand a node to Ray, which begins it once a machine has room for it."""
        known = dataset_fingerprints(node.inputs, self.catalog)
        hides = node in self.with_workers and not node.func.computes
        environment = {"env_vars": self.variables | (SEES_NO_GPU if hides else {})}
        options = {"name": node.name, "runtime_env": environment} | self.resources[node]
        task = self.run_node.options(**options).remote(
            node,
            self._catalog_of(node),
            self.journal,
            self.settings,
            [*known.values()],
            self.deaths[node],
        )
        self.at_work[task] = node

    def _catalog_of(self, node: Node) -> DataCatalog:
        """Return the part of the catalog that a node takes and makes; its lines go by the journal.

        One process writes them: storage that machines share cannot append for several.
        """
        names = [*node.inputs, *node.outputs, *({TENSORBOARD} & {*self.catalog})]
        entries = {name: self.catalog[name] for name in names}
        lines = {name: LinesDataset(self.journal, name) for name in LINES if name in self.catalog}
        return DataCatalog(entries | lines)

    def _end(self, task: ObjectRef) -> None:
        """Take a node's end: it is done, it has failed, or it is begun again.

        Raises:
            InputError: an input of the node is at fault, its workers die again and again, or an
                artefact that the run keeps was made from another output.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        node = self.at_work.pop(task)
        try:
            outputs = ray.get(task)
        except RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            self._log_lines()  # raises if that is what the node has failed at
            raise
        except RayError as error:
            self._begin_again(node, error)
            return
        self.order.done(node)
        self.n_done += 1
        for name in node.outputs:
            self.catalog.release(name)  # which version is the latest has changed
        for output in outputs.values():
            remember(output)
        for hooks in self.provenance:
            hooks.check_consumers(outputs)

    def _begin_again(self, node: Node, error: RayError) -> None:
        self.deaths[node] += 1
        if self.deaths[node] > self.n_retries:
            raise InputError(
                f"{node.name}: each worker has died that began it ({self.deaths[node]}; the last "
                f"of {type(error).__name__}: {first_line(error)}); if memory is short, let "
                f"engine.resources.{stage_of(node)}.num_cpus leave it more of a machine"
            )
        log.warning(
            "The worker of %s has died (%s): the node is begun again",
            node.name,
            type(error).__name__,
        )
        self._begin(node)

    def _log_lines(self) -> None:
        """Log here what the workers have logged.

        Raises:
            InputError: the process that writes the lines of the run has died.
        """
        import ray
        from ray.exceptions import RayError

        try:
            records = ray.get(self.journal.take.remote())
        except RayError as error:
            raise InputError(
                f"the process that writes the log of the run has died ({type(error).__name__}: "
                f"{first_line(error)}); finished results are kept"
            ) from None
        for record in records:
            logging.getLogger(record.name).handle(record)

    def _break_off(self) -> None:
        """End the nodes at work: by an interrupt, which leaves no half file, or by force."""
        import ray

        for is_killed in (False, True):
            if not self.at_work:
                return
            for task in self.at_work:
                ray.cancel(task, force=is_killed)
            ended, _ = ray.wait(
                [*self.at_work], num_returns=len(self.at_work), timeout=SECONDS_TO_END
            )
            for task in ended:
                del self.at_work[task]


def _torch_threads() -> int:
    """Return how many threads torch takes in one process, here."""
    import torch

    return torch.get_num_threads()


def _check_all_in_files(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuse what a node would keep in memory, where no other process finds it.

    Raises:
        InputError: naming it.
    """
    in_memory = [
        name
        for name in sorted(pipeline.all_outputs())
        if isinstance(catalog.get(name), MemoryDataset)
    ]
    if in_memory:
        raise InputError(
            f"--runner=RayRunner: {in_memory[0]} is kept in memory, where no other process finds "
            f"it; leave --runner out, or give it an entry with a file in the catalog"
        )
