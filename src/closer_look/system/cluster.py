"""Ray, the engine of several devices and machines: one process joins or starts it here."""

from __future__ import annotations

import logging
import os
import socket

import psutil

from closer_look.errors import InputError, first_line, listed, quote

ATTEMPTS = 3  # on a busy machine, a part of Ray may take longer to start than Ray waits: 15 s
SECONDS_TO_ANSWER = 5  # of a cluster's head; Ray itself would ask for minutes
OBJECTS = 100 * 2**20  # bytes for what travels through Ray: fingerprints and log lines
QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # nodes are the run, and no work beside it
}


def connect(address: str | None = None, n_cpus: int | None = None) -> None:
    """Join a Ray cluster, unless this process is in one already.

    Args:
        address: ``HOST:PORT`` of a cluster's head, or "auto" on one of its machines. None: that
            in the environment variable ``RAY_ADDRESS``; if there is none, a cluster on this machine
            alone, which ends with this process.
        n_cpus: CPUs of such a cluster; as many as there are cores if None.

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached, or it is not clear which is
            meant.
    """
    for name, value in ENVIRONMENT.items():  # read at import
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise InputError(
            "several workers need Ray, which is not installed: pip install 'closer-look[cluster]'"
        ) from None
    if ray.is_initialized():  # also inside a task
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _check_head(address)
        _join(address)
    else:
        _start(n_cpus)


def _check_head(address: str) -> None:
    """Check that somebody answers there.

    Raises:
        InputError: nobody does, or "auto" may mean several clusters.
    """
    if address == "auto":
        heads = _heads_here()
        if len(heads) > 1:
            raise InputError(f"the Ray address 'auto' may be {listed(heads)}; name one of them")
        if not heads:
            raise InputError(
                "the Ray address is 'auto', but this machine belongs to no Ray cluster; begin one "
                "with `ray start --head`, or leave the address out"
            )
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InputError(
            f"the Ray address {quote(address)} is not HOST:PORT, such as 10.0.0.1:6379"
        )
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({error}); `ray start --head` prints the address "
            f"of the one it begins; without RAY_ADDRESS and engine.address, this machine works "
            f"alone"
        ) from None


def _heads_here() -> list[str]:
    """List the addresses of all clusters that have a process on this machine."""
    return sorted(
        {
            argument.partition("=")[2]
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] == "raylet"
            for argument in process.info["cmdline"] or ()
            if argument.startswith("--gcs-address=")
        }
    )


def _join(address: str) -> None:
    import ray

    try:
        ray.init(address=address, **QUIET)
    except (Exception, SystemExit) as error:  # it exits where another service answers
        reason = "it is no Ray cluster" if isinstance(error, SystemExit) else first_line(error)
        raise InputError(
            f"the Ray cluster at {address} cannot be used ({reason}); run this command on a "
            f"machine of the cluster, in an environment in which `ray status` shows it, with "
            f"RAY_AUTH_MODE=token if it asks for one"
        ) from None


def _start(n_cpus: int | None) -> None:
    """Start a cluster on this machine alone."""
    import ray

    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=n_cpus,
                object_store_memory=OBJECTS,
                # By default, Ray asks another machine for this one's address in the network.
                _node_ip_address="127.0.0.1",
                include_dashboard=False,
                **QUIET,
            )
        except Exception as error:  # Ray raises anything, also plain exceptions
            if attempt == ATTEMPTS:
                raise InputError(
                    f"Ray cannot start here ({first_line(error)}); try again when the machine is "
                    f"less busy"
                ) from None
        else:
            return


def check_workers(n_workers: int, parameter: str, machine: str | None = None) -> None:
    """Check that there is a device for each worker: a GPU if there are any, else a CPU core.

    Args:
        n_workers: number of processes.
        parameter: full name of the parameter that asks for them, for the message.
        machine: that has to have the devices (``this_machine``); None for the whole cluster.

    Raises:
        InputError: there are fewer, or see ``connect``.
    """
    kind = device_kind()
    n_devices = int(_resources(machine).get(kind, 0))
    if n_workers > n_devices:
        named = "GPUs" if kind == "GPU" else "CPU cores"
        raise InputError(
            f"parameter {parameter}: {n_workers} workers need as many {named}, and there are "
            f"{n_devices}; lower it"
        )


def device_kind() -> str:
    """Return what workers compute on: "GPU" if this process's cluster has any, else "CPU"."""
    return "GPU" if _resources().get("GPU") else "CPU"


def thread_variables(n_threads: int) -> dict[str, str]:
    """Return environment variables of workers that compute with a number of threads each.

    Ray would give them a thread for each of their CPUs. Those of several workers share the cores:
    threads that wait must not spin.
    """
    return {"OMP_NUM_THREADS": str(n_threads), "OMP_WAIT_POLICY": "passive"}


def this_machine() -> str:
    """Return Ray's name of the machine of this process."""
    connect()
    import ray

    return ray.get_runtime_context().get_node_id()


def _resources(machine: str | None = None) -> dict[str, float]:
    connect()
    import ray

    if machine is None:
        return ray.cluster_resources()
    return next(one["Resources"] for one in ray.nodes() if one["NodeID"] == machine)
