"""What is refused surely does not fit; what might fit never is."""

import pytest

from closer_look.models.blueprint import blueprint
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.models import BaseModelParameters
from closer_look.parameters.training import FinetuningParameters, UnlearningParameters
from closer_look.training.fit import least_bytes, too_large, whole_too_large

SIZES = {"vocabulary_size": 300, "hidden_size": 16, "intermediate_size": 32, "layers": 2}
SIZES |= {"heads": 2, "context_length": 256, "initializer_range": 0.02, "seed": 1}
SETTINGS = {"learning_rate": 1e-5, "epochs": 2, "batch_size": 4, "warmup_epochs": 0, "seed": 1}


@pytest.fixture
def model():
    return blueprint(BaseModelParameters(small_llama=SIZES, prompt="plain"), 300)


@pytest.fixture
def n_weights(model):
    return sum(one.numel() for one in model.parameters())


@pytest.fixture
def least(model, shipped_methods):
    """Bytes of a method, with changes of it and of the run's settings."""

    def least(name, own=None, **options):
        method = MethodParameters.model_validate(shipped_methods[name] | (own or {}))
        return least_bytes(model, UnlearningParameters(**SETTINGS | options), method)

    return least


def test_all_weights_are_sixteen_bytes_each(least, model, n_weights):
    assert least("ga_gd") == 16 * n_weights
    assert least_bytes(model, FinetuningParameters(**SETTINGS)) == 16 * n_weights


def test_two_optimisers_are_more(least, n_weights):
    assert least("me_gd", optimiser="dual_optim") == 24 * n_weights


@pytest.mark.parametrize(
    ("name", "own", "options"),
    [
        ("ga_gd", None, {"lora": {"rank": 8}}),  # few weights are trained
        ("rmu", None, {}),  # those behind the layer that it reads get no gradient
    ],
    ids=["lora", "rmu"],
)
def test_weights_that_are_not_trained_are_four(least, n_weights, name, own, options):
    assert least(name, own, **options) == 4 * n_weights


def test_only_what_is_trained_has_moments(least, n_weights):
    own = {"trainable": [r"model\.layers\.1\.mlp\.\w+\.weight"]}
    assert least("ga_gd", own) == 4 * n_weights + 12 * 3 * 16 * 32


def test_one_line_says_what_is_too_much():
    line = too_large({"GA+GD": 5_000_000_000, "Two": 9_000_000_000}, 2_000_000_000, "unlearning")
    assert line == (
        "GA+GD surely does not fit: weights, gradients and moments take 5.0 GB of a device, which "
        "has 2.0 GB; unlearning.lora.rank=8, or unlearning.workers=N over several devices, does "
        "with less; kedro run --pipelines plan tells how much"
    )


@pytest.mark.parametrize("least", [{}, {"A": 1, "B": 9}], ids=["nothing trains", "one of two"])
def test_what_may_fit_is_not_refused(least):
    assert too_large(least, 2, "unlearning") is None


def test_a_device_must_hold_all_weights_however_many_share_them(least, model, n_weights):
    assert least("ga_gd", workers=8) == 2 * n_weights
    assert whole_too_large(model, 4 * n_weights) is None
    assert whole_too_large(model, 4 * n_weights - 1) == (
        "the model surely does not fit: its weights take 0.0 GB, a device has 0.0 GB, and one "
        "reads and asks the whole model before workers share it; take a smaller model or a larger "
        "device"
    )
