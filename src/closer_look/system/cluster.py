"""Ray, the engine of several devices and machines: one process joins or starts it here."""

from __future__ import annotations

import logging
import os
import socket

from closer_look.errors import InputError, first_line

ATTEMPTS = 3  # on a busy machine, a part of Ray may take longer to start than Ray waits: 15 s


def connect(address: str | None = None) -> None:
    """Join a Ray cluster, unless this process is in one already.

    Args:
        address: ``HOST:PORT`` of a cluster's head, or "auto" on one of its machines. None: that
            in the environment variable ``RAY_ADDRESS``; if there is none, a cluster on this machine
            alone, which ends with this process.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read at import
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
    if not address:
        _start()
        return
    try:
        if address != "auto":  # where nobody answers, Ray would end this process
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises anything, also plain exceptions
        raise InputError(
            f"no Ray cluster can be reached at {address} ({first_line(error)}); start it, set "
            f"RAY_AUTH_MODE=token if it asks for one, or unset RAY_ADDRESS to work on this machine "
            f"alone"
        ) from None


def _start() -> None:
    """Start a cluster on this machine alone."""
    import ray

    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(
                "local",
                # By default, Ray asks another machine for this one's address in the network.
                _node_ip_address="127.0.0.1",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:
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
