"""The Ray cluster of a run: the connection, its machines, and what each node takes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import fsspec

import closer_look
from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.errors import InputError, first_line, listed
from closer_look.parameters.engine import StageResources
from closer_look.project.dependencies import is_parameter, library_versions
from closer_look.project.node_log import stage_of
from closer_look.project.provenance import PROVENANCE
from closer_look.system.cluster import connect
from closer_look.system.fingerprints import fingerprint

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

    from closer_look.parameters.engine import EngineParameters

SECONDS_TO_LOOK = 120  # of a machine that looks at its folders; it imports the project first
KINDS = {"num_cpus": "CPU", "num_gpus": "GPU"}  # Ray's names: of what is asked, of what there is


@contextmanager
def connected(engine: EngineParameters) -> Iterator[None]:
    """Connect to the cluster, or make one for the ``with`` block; a connection that is there stays.

    Raises:
        InputError: see ``system.cluster.connect``; or it has its own number of CPUs.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = engine.address or os.environ.get("RAY_ADDRESS")
    if address and engine.workers:
        raise InputError(
            f"parameter engine.workers: {address} has its own number of CPUs; leave it out, and "
            f"say in engine.resources what a node takes"
        )
    connect(address, engine.workers)
    try:
        yield
    finally:
        ray.shutdown()


def resources_of(
    pipeline: Pipeline, catalog: CatalogProtocol, engine: EngineParameters
) -> dict[Node, dict[str, float]]:
    """Return what each node takes of a machine: ``num_cpus`` and ``num_gpus``.

    A node that starts workers of its own takes nothing: they do.

    Raises:
        InputError: ``engine.resources`` names no stage.
    """
    from closer_look.reporting.results import STAGES

    for name in engine.resources:
        if name not in STAGES:
            raise InputError(
                f"parameter engine.resources: there is no stage '{name}', choose from "
                f"{', '.join(STAGES)}"
            )
    has_gpus = any(machine["Resources"].get("GPU") for machine in _machines())
    found = {}
    for node in pipeline.nodes:
        asked = engine.resources.get(stage_of(node), StageResources())
        n_gpus = asked.num_gpus
        if n_gpus is None:
            n_gpus = float(has_gpus and _holds_a_model(node, catalog))
        if starts_workers(node, catalog):
            found[node] = {"num_cpus": 0, "num_gpus": 0}
        else:
            found[node] = {"num_cpus": asked.num_cpus, "num_gpus": n_gpus}
    return found


def _holds_a_model(node: Node, catalog: CatalogProtocol) -> bool:
    """Return whether a node takes or makes a language model, or asks the models that judge."""
    names = [name for name in (*node.inputs, *node.outputs) if not is_parameter(name)]
    has_own = any(isinstance(catalog[name], CausalLMDataset) for name in names)
    return has_own or "params:judges" in node.inputs


def starts_workers(node: Node, catalog: CatalogProtocol) -> bool:
    """Return whether a node runs over several workers of its own (see ``spreads``)."""
    group = f"params:{getattr(node.func, 'spread_by', None)}"
    return group in node.inputs and getattr(catalog.load(group), "workers", 1) > 1


def check_room(resources: Mapping[Node, Mapping[str, float]]) -> None:
    """Check that some machine has what each node takes.

    Raises:
        InputError: naming the stage, and the most that a machine has.
    """
    machines = [machine["Resources"] for machine in _machines()]
    for node, asked in resources.items():
        if any(
            all(machine.get(KINDS[kind], 0) >= n for kind, n in asked.items())
            for machine in machines
        ):
            continue
        wanted = [f"{n:g} {KINDS[kind]}s" for kind, n in asked.items() if n]
        there = sorted({f"{m.get('CPU', 0):g} CPUs and {m.get('GPU', 0):g} GPUs" for m in machines})
        raise InputError(
            f"parameter engine.resources.{stage_of(node)}: {node.name} takes {listed(wanted)} of "
            f"one machine, but the machines of the cluster have {'; '.join(there)}"
        )


def check_machines(catalog: CatalogProtocol, environment: Mapping[str, Any]) -> None:
    """Check that each machine has this project, and reads and writes the files of the run.

    Args:
        catalog: where they are.
        environment: ``runtime_env`` of the workers, of which some will go on to run nodes.

    Raises:
        InputError: naming the machine.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    data = str(catalog[PROVENANCE].folder) if PROVENANCE in catalog else None
    mark = f"seen-{uuid4().hex}"
    look = ray.remote(num_cpus=0, max_retries=0, runtime_env=environment)(look_around)
    with _marked(data, mark):
        looks = {
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False)
            ).remote(os.getcwd(), this_project(), data, mark): machine["NodeManagerHostname"]
            for machine in _machines()
        }
        done, silent = ray.wait([*looks], num_returns=len(looks), timeout=SECONDS_TO_LOOK)
        faults = {looks[one]: f"has not answered in {SECONDS_TO_LOOK} seconds" for one in silent}
        for one in done:
            try:
                faults[looks[one]] = ray.get(one)
            except (RayError, ImportError) as error:  # it has no project, or another Python
                faults[looks[one]] = f"cannot run this project: {first_line(error)}"
    for machine, fault in faults.items():
        if fault:
            raise InputError(f"machine {machine} of the cluster {fault}")


@contextmanager
def _marked(folder: str | None, mark: str) -> Iterator[None]:
    """Have a file in the folder during the ``with`` block."""
    if folder is None:
        yield
        return
    file_system, path = fsspec.url_to_fs(f"{folder}/{mark}")
    file_system.pipe_file(path, mark.encode())
    try:
        yield
    finally:
        file_system.rm_file(path)


def this_project() -> dict[str, str]:
    """Return what all machines must have alike: versions of libraries, and a hash of the code."""
    files = sorted(Path(closer_look.__file__).parent.rglob("*.py"))
    code = fingerprint([str(path) for path in files]).sha256
    return {f"{name} {version}": "" for name, version in library_versions().items()} | {
        "the code of closer-look": code
    }


def look_around(project: str, expected: Mapping[str, str], data: str | None, mark: str) -> str:
    """Look at this machine on behalf of a run.

    Args:
        project: folder of the process that was started.
        expected: see ``this_project``.
        data: a folder of the run, or a URL.
        mark: name of a file in it, whose content is its name.

    Returns:
        What is wrong with this machine, and what to do; "" if nothing is.
    """
    here = this_project()
    other = [name for name, value in expected.items() if here.get(name) != value]
    if other:
        return f"has not {listed(other)}; install the same there, and begin its Ray anew"
    if not os.path.isdir(project):
        return f"has no folder {project}; put the project into a folder that all machines share"
    if data is None:
        return ""
    shared = "let --params data=FOLDER name a folder that all machines share, or a URL"
    file_system, path = fsspec.url_to_fs(f"{data}/{mark}")
    try:
        if file_system.cat_file(path) != mark.encode():
            return f"reads another {data} than this one; {shared}"
        own = f"{path}-{uuid4().hex}"
        file_system.pipe_file(own, b"")
        file_system.rm_file(own)
    except OSError as error:
        return f"cannot read and write {data} ({first_line(error)}); {shared}"
    return ""


def _machines() -> list[dict[str, Any]]:
    import ray

    return [machine for machine in ray.nodes() if machine["Alive"]]
