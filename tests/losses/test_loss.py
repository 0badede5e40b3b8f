"""Records of losses, and losses of a user's own package."""

from typing import Annotated

import pytest
from annotated_types import Gt

from closer_look.losses import FORGET, RETAIN, Loss, find_loss

OWN = """
from typing import TYPE_CHECKING, Annotated
from annotated_types import Gt
from closer_look.losses import Loss, sequence_nll

if TYPE_CHECKING:
    from torch import Tensor

def halved(logits, labels, gamma: Annotated[float, Gt(0)] = 0.5):
    return gamma * sequence_nll(logits, labels).mean()

def needs_gamma(logits, labels, gamma: float):
    return halved(logits, labels, gamma)

def of_nothing(gamma: float = 1.0):
    return gamma

def of_labels(labels, reference_nll):
    return reference_nll.mean()

def of_states(activations, labels):
    return activations.square().mean()

def of_a_reference(logits, labels, reference_logits):
    return (logits - reference_logits).square().mean()

def unreadable(logits: "Tensor", labels, gamma: "Tensor" = 1.0):
    return gamma

HALVED = Loss(halved, "HALF", "make the true answer half as likely")
NUMBER = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name: find_loss(f"own_losses:{name}", FORGET)
    import sys

    sys.modules.pop("own_losses", None)


def test_a_loss_is_found_by_name_or_by_its_path(own):
    assert find_loss("npo", FORGET) is FORGET["npo"]
    loss = own("halved")
    assert (loss.label, loss.function.__name__, loss.mean_over_positions) == (
        *("halved", "halved"),
        False,
    )
    assert own("HALVED").label == "HALF"
    assert own("of_a_reference").mean_over_positions
    assert loss.tensors == {"logits", "labels"}
    assert own("of_states").tensors == {"activations", "labels"}


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="unknown loss 'nope', choose from gradient_descent, kl"):
        find_loss("nope", RETAIN)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("nope", "loss 'own_losses:nope' cannot be imported"),
        ("NUMBER", "loss 'own_losses:NUMBER' is no function"),
        ("of_nothing", "loss 'own_losses:of_nothing' reads neither logits nor activations, only -"),
        ("of_labels", "reads neither logits nor activations, only labels, reference_nll"),
    ],
)
def test_what_is_no_loss_is_refused(own, name, fault):
    with pytest.raises(ValueError, match=fault):
        own(name)


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"loss 'no\.such:loss' cannot be imported \(No module"):
        find_loss("no.such:loss", RETAIN)


@pytest.mark.parametrize(
    ("name", "given", "fault"),
    [
        ("halved", {"gamma": 0}, "gamma of loss 'halved': Input should be greater than 0, not 0"),
        ("halved", {"gamma": "1"}, "gamma of loss 'halved': Input should be a valid number"),
        ("halved", {"beta": 1}, "loss 'halved' takes no 'beta'"),
        ("needs_gamma", {}, "loss 'needs_gamma' needs a value of 'gamma'"),
        ("unreadable", {"gamma": 1}, "loss 'unreadable': its annotations cannot be read"),
    ],
)
def test_hyperparameters_of_an_own_loss_are_checked(own, name, given, fault):
    with pytest.raises(ValueError, match=fault):
        own(name).check(given)


def test_bounds_are_annotations():
    def bounded(logits, labels, delta: Annotated[int, Gt(2)] = 3):
        return logits.sum() * delta

    loss = Loss(bounded, "B", "")
    loss.check({"delta": 4})
    with pytest.raises(ValueError, match="delta of loss 'bounded': Input should be greater than 2"):
        loss.check({"delta": 2})


@pytest.mark.parametrize(
    ("name", "counted"), [("npo", [1, 0]), ("idk", [3, 0]), ("wga", [3, 0]), ("ce_u", [2, 0])]
)
def test_what_a_loss_averages_over(name, counted):
    """Of a text with three labels, and of one with none."""
    assert [FORGET[name].count(n_labels) for n_labels in (3, 0)] == counted


def test_ce_u_counts_no_positions_that_it_ignores():
    assert FORGET["ce_u"].count(5, ignore_first=3) == 2
