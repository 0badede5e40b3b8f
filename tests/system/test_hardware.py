"""What this machine has, and what known devices can."""

import psutil
import pytest

from closer_look.system import hardware


@pytest.mark.parametrize(
    ("name", "precision", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA L4", "bf16", 121),
    ],
)
def test_peaks_of_known_devices(name, precision, tflops):
    assert hardware.known_peak(name, precision) == tflops * 1e12


def test_an_unknown_device_has_no_peak():
    assert hardware.known_peak("NVIDIA Something New", "bf16") is None


@pytest.mark.parametrize(
    ("written", "limit"), [("1000000\n", 1_000_000), ("max\n", None)], ids=["limited", "free"]
)
def test_a_container_has_no_more_memory_than_its_limit(tmp_path, monkeypatch, written, limit):
    path = tmp_path / "memory.max"
    path.write_text(written, encoding="utf-8")
    monkeypatch.setattr(hardware, "CGROUP_LIMITS", (path, tmp_path / "missing"))
    assert hardware.memory_limit() == (limit or psutil.virtual_memory().total)


def test_a_cpu_is_measured():
    here = hardware.devices_here()
    assert here.n_devices >= 1
    assert 1e8 < hardware.measured_peak() < 1e15
