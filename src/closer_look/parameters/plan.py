"""Parameters of ``kedro run --pipelines plan``: the hardware to plan for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from closer_look.parameters.base import Parameters

Amount = Annotated[float, Field(gt=0, lt=1e9)]


class PlanParameters(Parameters):
    """Hardware, which may be elsewhere; what is absent is that of this machine.

    No result of a run depends on it.
    """

    device_memory_gb: Amount | None = None
    """Memory of one device in gigabytes of 10^9 bytes. If it is given, the devices are
    accelerators, and ``kedro run`` holds a run against it, too."""
    devices: PositiveInt | None = None
    """Number of devices that a training may be spread over."""
    peak_tflops: Amount | None = None
    """The most that one device computes in a second, in 10^12 floating-point operations, as its
    data sheet says for the run's precision."""
    efficiency: float = Field(0.4, gt=0, le=1)
    """Share of that peak which a training reaches; 0.3 to 0.5 is usual for large batches."""
