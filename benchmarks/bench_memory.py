"""Peak memory of two steps here and by the published protocol, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ("ga_gd", "npo_gd", "npo_kl")


def peak(model, method, protocol):
    """Gigabytes that two steps hold at most, resident or on the accelerator."""
    command = [sys.executable, str(Path(__file__).with_name("peak_memory.py"))]
    found = subprocess.run(
        [*command, model, method, protocol], capture_output=True, text=True, check=True
    )
    return float(found.stdout)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("language_model", ["small_llama", "smollm2"])
def test_peak_memory(measured, language_model, method):
    here, published = (peak(language_model, method, way) for way in ("here", "published"))
    measured(f"peak memory, {language_model}", method, "GB", here=here, published=published)
    assert here < published
