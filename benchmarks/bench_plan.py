"""Planned and measured peak memory of trainings, each in its own process on this CPU.

glibc is told to give memory back (``MALLOC_MMAP_THRESHOLD_``): the holes that it keeps otherwise
are no part of a plan. See docs/scale.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = {"hidden_size": 512, "intermediate_size": 1408, "layers": 8, "heads": 8}
DEEP = SMALL | {"layers": 24}
WIDE = {"hidden_size": 1024, "intermediate_size": 2816, "layers": 8, "heads": 16}
CHECKPOINTING, LORA = {"gradient_checkpointing": True}, {"lora": {"rank": 8}}
TOLERANCE = 0.15


@pytest.mark.parametrize(
    ("method", "sizes", "settings"),
    [
        ("ga_gd", SMALL, {"batch_size": 8}),
        ("ga_gd", SMALL, {"batch_size": 32}),
        ("ga_gd", SMALL, {"batch_size": 32} | CHECKPOINTING),
        ("ga_gd", SMALL, {"batch_size": 32, "micro_batch_size": 8}),
        ("ga_gd", SMALL, {"batch_size": 32} | LORA),
        ("ga_gd", DEEP, {"batch_size": 8} | CHECKPOINTING),
        ("ga_gd", WIDE, {"batch_size": 8}),
        ("idk_ap", SMALL, {"batch_size": 16}),
        ("npo_kl", SMALL, {"batch_size": 16}),
        ("rmu", SMALL, {"batch_size": 16}),
        ("dual_optim", SMALL, {"batch_size": 16}),
        ("task_vector", SMALL, {"batch_size": 16}),
        ("ga_gd", SMALL, {"batch_size": 16, "workers": 2}),
        ("ga_gd", SMALL, {"batch_size": 16, "workers": 2, "sharding": "none"}),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value),
)
def test_peak_is_the_planned_one(measured, method, sizes, settings):
    command = [sys.executable, str(Path(__file__).with_name("peak_of_training.py")), method]
    done = subprocess.run(
        [*command, json.dumps(sizes), json.dumps(settings)],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    what = f"{method}, {sizes['layers']} layers of {sizes['hidden_size']}, {json.dumps(settings)}"
    measured("planned and measured peak", what, "", value=found["planned"] / found["measured"])
    print(f"\n{what}: planned {found['planned']:.2f} GB, measured {found['measured']:.2f} GB")
    assert found["planned"] == pytest.approx(found["measured"], rel=TOLERANCE)
