"""Advice is what fits: more devices share a model only if one of them has room to read it."""

import re

import pytest

from closer_look.parameters.training import UnlearningParameters
from closer_look.reporting.advice import advise
from closer_look.system.hardware import Devices
from closer_look.training.needs import Needs

NOTHING = Needs(*[0] * len(Needs._fields))
SETTINGS = UnlearningParameters(learning_rate=1e-5, epochs=2, batch_size=8, seed=1)


@pytest.mark.parametrize(
    ("memory", "advice"),
    [
        (21, "GA fits with --params unlearning.workers=4"),
        (19, "GA does not fit, even with .*: it needs more devices, or larger ones"),
    ],
)
def test_one_device_must_read_the_whole_model(memory, advice):
    found = NOTHING._replace(weights=20, gradients=20, moments=40)
    devices = Devices("as given", False, 8, memory)
    told = advise("unlearning", "GA", found, SETTINGS, lambda _: NOTHING, devices)
    assert re.fullmatch(advice, told)
