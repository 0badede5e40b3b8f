"""Project hooks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines

from closer_look.datasets.folder_dataset import CheckpointsDataset
from closer_look.errors import InputError
from closer_look.project import experiment
from closer_look.project.configuration import check_paths
from closer_look.project.dependencies import (
    code_of,
    dataset_fingerprints,
    dependencies,
    model_fingerprints,
)
from closer_look.project.fit import check_fit
from closer_look.project.leftovers import remove_leftovers
from closer_look.project.provenance import (
    PROVENANCE,
    History,
    check_clock,
    check_models_are_kept,
)
from closer_look.project.runner import ANEW
from closer_look.system.run_lock import lock_run

if TYPE_CHECKING:
    from filelock import FileLock
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

    from closer_look.project.dependencies import Record
    from closer_look.system.fingerprints import Fingerprint

log = logging.getLogger(__name__)


class ExperimentHooks:
    """Hand the live configuration (--env, --params) to the pipeline factories."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Before Kedro builds the pipelines; anew for each run that a process makes."""
        experiment.use(context.config_loader)
        requested = pipelines._requested_pipelines  # which configure forgets
        pipelines.configure("closer_look.pipeline_registry")
        pipelines.set_requested(requested)


class ProvenanceHooks:
    """Record what each artefact is made from, and let no run use one that is out of date."""

    def __init__(self) -> None:
        self._lock: FileLock | None = None
        self._records: dict[str, tuple[CatalogProtocol, Record, set[str]]] = {}  # of nodes at work
        self._consumers: dict[str, dict[str, str]] = {}

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Lock the run, and look at what it takes from earlier ones.

        Raises:
            InputError: a parameter of paths is in none of them, another process is at work on the
                run, an artefact would now be made otherwise, or requests would be left out.
        """
        self._end()
        check_paths(run_params["runtime_params"], pipeline, catalog)
        if PROVENANCE not in catalog:
            return
        self._lock = lock_run(catalog[PROVENANCE].folder)
        try:
            self._check(run_params, pipeline, catalog)
        except BaseException:
            self._end()
            raise

    def _check(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        kept: set[Node] = set()
        if run_params["only_missing_outputs"]:
            if pipeline.only_nodes_with_tags(*ANEW).nodes:
                raise InputError(
                    f"--only-missing-outputs: leave it out; {' and '.join(ANEW)} do in each run "
                    f"what is due, whatever outputs are there"
                )
            kept = {node for node in pipeline.nodes if all(map(catalog.exists, node.outputs))}
        check_models_are_kept(pipeline, catalog)
        history = History(catalog, pipelines.values(), run_params["load_versions"] or ())
        history.check_chosen()
        to_run = set(pipeline.nodes) - kept
        for node in to_run:  # before anyone edits what Python has read by now
            code_of(node, catalog)
        _report(history.check(to_run, kept))
        if not to_run:
            log.info("Everything is there, and is what this run would make")
        self._consumers = history.consumers(kept)
        check_clock(pipeline, catalog)
        remove_leftovers(pipeline, catalog, kept)
        check_fit(to_run, catalog, str(run_params["runner"]))

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol) -> None:
        """Note what the node works from."""
        if PROVENANCE in catalog:
            self._records[node.name] = catalog, dependencies(node, catalog), set()

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Record what is about to be saved: if the process is killed, it may be there or not."""
        if node.name in self._records:
            catalog, record, _ = self._records[node.name]
            downloaded = model_fingerprints(record["parameters"])  # models that it has fetched
            record["inputs"] = downloaded | record["inputs"]
            before = dataset_fingerprints(node.outputs, catalog)
            catalog.save(PROVENANCE, record | {"before": before})

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Record what the node has made, when all of it is there, and remove its checkpoints.

        Raises:
            InputError: an artefact that the run keeps was made from another output.
        """
        if node.name not in self._records:
            return
        catalog, record, saved = self._records[node.name]
        saved.add(dataset_name)
        if saved < set(node.outputs):
            return
        del self._records[node.name]
        outputs = dataset_fingerprints(node.outputs, catalog)
        catalog.save(PROVENANCE, record | {"outputs": outputs})
        for dataset in map(catalog.get, node.inputs):
            if isinstance(dataset, CheckpointsDataset):
                dataset.remove()
        self.check_consumers(outputs)

    def check_consumers(self, outputs: Mapping[str, Fingerprint]) -> None:
        """Refuse outputs other than those from which artefacts that the run keeps were made.

        Args:
            outputs: of a node, by name.

        Raises:
            InputError: naming the output and the artefact's node.
        """
        for name, output in outputs.items():
            for consumer, sha256 in self._consumers.get(name, {}).items():
                if output.sha256 != sha256:
                    raise InputError(
                        f"{name} is another one than that from which {consumer} has worked; "
                        f"--from-nodes={consumer} makes anew what depends on it"
                    )

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Unlock the run."""
        self._end()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Unlock the run."""
        self._end()

    def _end(self) -> None:
        self._records.clear()
        self._consumers = {}
        if self._lock:
            self._lock.release(force=True)
            self._lock = None


def _report(other_versions: str) -> None:
    """Warn of results that other versions of libraries have made, or refuse them.

    Raises:
        InputError: ``experiment.on_other_versions`` is "refuse".
    """
    if not other_versions:
        return
    if experiment.load_experiment().on_other_versions == "refuse":
        raise InputError(
            f"{other_versions}; --params run=NAME begins another run, "
            f"experiment.on_other_versions=warn goes on"
        )
    log.warning("%s", other_versions)
