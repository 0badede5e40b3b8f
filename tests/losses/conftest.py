"""Tensors for the losses: batches with numbers known by hand, and the published values."""

import inspect
import json
from pathlib import Path

import pytest
import torch

GOLDENS = Path(__file__).parents[3] / "shared" / "goldens"


@pytest.fixture(scope="session")
def golden_cases():
    return read_cases(GOLDENS / "losses.json")


@pytest.fixture(scope="session")
def golden_cases_beyond():
    return read_cases(GOLDENS / "losses_beyond.json")


def read_cases(path):
    if not path.exists():
        pytest.skip(f"the published values are not beside the repository ({path})")
    return json.loads(path.read_text())["cases"]


@pytest.fixture
def halves():
    """Logits and labels of two rows in which every number is a power of two.

    Each position has p = (1/2, 1/4, 1/4). Row 0 has labels 0 and 1: nll = log 2 + log 4 = 3 log 2.
    Row 1 has label 2: nll = log 4 = 2 log 2.
    """
    logits = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).log().expand(2, 3, 3).clone()
    labels = torch.tensor([[-100, 0, 1], [2, -100, -100]])
    return logits, labels


@pytest.fixture
def batch():
    """Every tensor that a loss may ask for: 3 rows, answers of 2 to 4 tokens, 5 words, hidden
    states of size 4, float64."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "logits": normal(3, 6, 5),
        "labels": torch.tensor(
            [
                [-100, -100, 1, 4, 0, -100],
                [-100, 2, 2, 3, 1, -100],
                [-100, -100, -100, 0, 3, -100],
            ]
        ),
        "idk_logits": normal(3, 4, 5),
        "idk_labels": torch.tensor([[-100, 1, 2, -100], [-100, 1, 2, 3], [-100, -100, 4, -100]]),
        "mismatch_logits": normal(3, 3, 5),
        "mismatch_labels": torch.tensor([[-100, 3, -100], [0, 2, -100], [-100, 1, 1]]),
        "alternate_logits": normal(3, 5, 5),
        "alternate_labels": torch.tensor(
            [[-100, 4, 4, -100, -100], [-100, 0, 1, 2, -100], [1, 3, -100, -100, -100]]
        ),
        "reference_logits": normal(3, 6, 5),
        "reference_nll": normal(3).abs() * 5,
        "reference_idk_nll": normal(3).abs() * 5,
        "reference_alternate_nll": normal(3).abs() * 5,
        "activations": normal(3, 6, 4),
        "reference_activations": normal(3, 6, 4),
        "control_vector": normal(4),
    }


@pytest.fixture
def call():
    """Call a loss the way a trainer does: with the tensors that its parameters name."""

    def call(loss, batch, **hyperparameters):
        names = inspect.signature(loss).parameters.keys() & batch.keys()
        return loss(**{name: batch[name] for name in names}, **hyperparameters)

    return call
