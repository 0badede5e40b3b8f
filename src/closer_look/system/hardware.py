"""The devices of this machine, their memory, and how fast known ones compute."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import psutil

PEAKS = {
    "B200": (2250, 75),
    "H200": (989, 67),
    "H100 PCIe": (756, 51),
    "H100": (989, 67),
    "A100": (312, 19.5),
    "L40S": (362, 91.6),
    "A40": (150, 37.4),
    "L4": (121, 30.3),
    "A10": (125, 31.2),
    "RTX 4090": (165, 82.6),
    "RTX 3090": (71, 35.6),
    "MI300X": (1307, 163.4),
    "MI250X": (383, 47.9),
}
"""A part of a device's name -> 10^12 operations a second, dense, in bf16 and in fp32 without TF32.

From the data sheets on nvidia.com and amd.com (those of NVIDIA print twice the number, with
sparsity, for bf16); RTX from the whitepapers of Ada and Ampere, with sums in fp32. The first that
fits counts: longer names stand first.
"""
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),  # version 2, of this container
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),  # version 1
)
PRODUCT = 2048  # rows and columns of the matrices that are multiplied to measure a CPU


class Devices(NamedTuple):
    """Equal devices that a training can run on."""

    name: str
    is_cpu: bool
    n_devices: int
    memory: int
    """Bytes of each."""


def devices_here() -> Devices:
    """Find this machine's accelerators, or its CPU with all its memory."""
    import torch

    if not torch.cuda.is_available():
        cores = psutil.cpu_count() or 1
        return Devices(f"CPU with {cores} cores", True, 1, memory_limit())
    properties = torch.cuda.get_device_properties(0)
    return Devices(properties.name, False, torch.cuda.device_count(), properties.total_memory)


def memory_limit() -> int:
    """Return the bytes of memory of this machine, or of the container in which it is one."""
    limits = [psutil.virtual_memory().total]
    for path in CGROUP_LIMITS:
        if path.is_file() and (text := path.read_text(encoding="utf-8").strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def known_peak(name: str, precision: str) -> float | None:
    """Return how many floating-point operations a second a device of that name does at most."""
    found = next((peaks for part, peaks in PEAKS.items() if part in name), None)
    return None if found is None else found[precision != "bf16"] * 1e12


def measured_peak() -> float:
    """Measure how many floating-point operations a second this CPU does in a product, in fp32."""
    import torch

    matrix = torch.ones(PRODUCT, PRODUCT)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2 * PRODUCT**3 / min(times)
