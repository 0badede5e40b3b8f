"""Costs of a piece of work: its peak memory, and the machine."""

from __future__ import annotations

import sys
from threading import Event, Thread

import psutil

SAMPLED_EVERY = 0.1  # seconds


class PeakMemory:
    """A meter of this process's peak memory; use it in a ``with`` block.

    Resident memory is sampled ten times a second. On a GPU, the peak of torch's allocations is
    exact.
    """

    def __enter__(self) -> PeakMemory:
        self._process, self._peak, self._ended = psutil.Process(), 0, Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def peaks_since_last_call(self) -> dict[str, int | None]:
        """Return the peaks in bytes, then reset them; ``peak_gpu_memory`` is None without a GPU."""
        self._sample()
        peaks: dict[str, int | None] = {"peak_memory": self._peak, "peak_gpu_memory": None}
        self._peak = 0
        if _uses_gpu():
            import torch

            peaks["peak_gpu_memory"] = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        return peaks

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLED_EVERY):
            self._sample()

    def _sample(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)


def describe_machine() -> str:
    """Describe cores and memory, as in "2 cores, 24 GB of memory"."""
    memory = psutil.virtual_memory().total / 1e9
    return f"{psutil.cpu_count()} cores, {memory:.0f} GB of memory"


def describe_gpus() -> str | None:
    """Describe the GPUs, as in "1 x NVIDIA H100 80GB HBM3"; None while this process uses none."""
    if not _uses_gpu():
        return None
    import torch

    names = [torch.cuda.get_device_name(gpu) for gpu in range(torch.cuda.device_count())]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def _uses_gpu() -> bool:
    """Check for a GPU in use, without importing torch or starting CUDA, which takes seconds."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()
