"""Parameters of the cluster that ``closer_look.project.ray_runner.RayRunner`` runs nodes on."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from closer_look.parameters.base import Parameters


def _of_a_machine(amount: float) -> float:
    if amount > 1 and amount % 1:
        raise ValueError(f"{amount} must be a whole number, or a share below 1")
    return amount


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_of_a_machine)]


class StageResources(Parameters):
    """What a node of a stage takes of a machine while it runs."""

    num_cpus: Amount = 1
    num_gpus: Amount | None = None
    """A GPU, if absent, for nodes that hold a model and if the cluster has GPUs."""


class EngineParameters(Parameters):
    """Where nodes run; of a run's results, no more than rounding depends on it."""

    address: str | None = None
    """``HOST:PORT`` of a cluster's head, or "auto" for the cluster that this machine belongs to; if
    absent, the environment variable ``RAY_ADDRESS`` and, without it, a cluster of this machine that
    lasts as long as the run."""
    workers: PositiveInt | None = None
    """CPUs of a cluster that lasts as long as the run, and so the nodes that it runs at a time; as
    many as there are cores if absent."""
    resources: dict[str, StageResources] = Field(default_factory=dict)
    """What nodes take, by stage."""
    retries: NonNegativeInt = 2
    """How often a node is begun again whose worker has died."""
    threads: PositiveInt | None = None
    """Threads that each node computes with; as many as torch takes in one process if absent, so
    that the numbers are those of one process."""
