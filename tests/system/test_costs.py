"""Peak memory of a piece of work, and the machine it ran on."""

import time

from closer_look.system import costs


def test_peak_is_seen_though_the_memory_was_given_back():
    with costs.PeakMemory() as memory:
        before = memory.peaks_since_last_call()["peak_memory"]
        held = bytearray(b"x" * 150_000_000)
        time.sleep(4 * costs.SAMPLED_EVERY)
        del held
        peak = memory.peaks_since_last_call()["peak_memory"]
        after = memory.peaks_since_last_call()["peak_memory"]
    assert peak > before + 100_000_000
    assert after < peak - 100_000_000


def test_a_machine_without_gpu_has_no_memory_of_one(monkeypatch):
    monkeypatch.setattr(costs, "_uses_gpu", lambda: False)
    with costs.PeakMemory() as memory:
        assert memory.peaks_since_last_call()["peak_gpu_memory"] is None
    assert costs.describe_gpus() is None


def test_gpus_are_counted_by_name(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: ["A", "A", "B"][gpu])
    assert costs.describe_gpus() == "2 x A, 1 x B"


def test_a_gpu_that_nothing_uses_is_not_started(monkeypatch):
    import torch

    started = []
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: started.append(1))
    with costs.PeakMemory() as memory:
        memory.peaks_since_last_call()
    assert costs.describe_gpus() is None
    assert started == []


def test_memory_of_the_gpu_is_torchs_and_starts_anew(monkeypatch):
    import torch

    resets = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 123)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: resets.append(1))
    with costs.PeakMemory() as memory:
        assert memory.peaks_since_last_call()["peak_gpu_memory"] == 123
    assert resets == [1]
