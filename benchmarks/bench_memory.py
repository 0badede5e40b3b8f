"""Peak memory of two steps here and by the published protocol, each in its own process."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from statistics import median

import pytest

METHODS = ("ga_gd", "npo_gd", "npo_kl")
PROTOCOLS = ("here", "published")
ROUNDS = 5


def peak(model, method, protocol):
    """Measure the peak of two steps in gigabytes, resident or on the accelerator."""
    command = [sys.executable, str(Path(__file__).with_name("peak_memory.py"))]
    found = subprocess.run(
        [*command, model, method, protocol], capture_output=True, text=True, check=True
    )
    return float(found.stdout)


@cache
def peaks(model):
    """Measure every method's peaks by both protocols, in turn: medians over rounds."""
    ways = [(method, protocol) for method in METHODS for protocol in PROTOCOLS]
    rounds = [[peak(model, *way) for way in ways] for _ in range(ROUNDS)]
    return dict(zip(ways, map(median, zip(*rounds, strict=True)), strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("language_model", ["small_llama", "smollm2"])
def test_peak_memory(measured, language_model, method):
    here, published = (peaks(language_model)[method, protocol] for protocol in PROTOCOLS)
    measured(f"peak memory, {language_model}", method, "GB", here=here, published=published)
    assert here < published
