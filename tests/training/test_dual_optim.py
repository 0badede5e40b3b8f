"""DualOptim: two AdamW of their own on the same weights."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import Parameter
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from closer_look.errors import InputError
from closer_look.losses import RETAIN
from closer_look.losses.loss import Loss
from closer_look.training.dual_optim import APART, DualOptim, keep_apart

SETTINGS = {"lr": 0.1, "weight_decay": 0.01}
GRADIENTS = [(3.0, -1.0), (-2.0, 0.5), (0.25, 4.0)]  # of forget, of retain, at each step


def weight():
    return Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))


def take_steps(optimiser, parameter, gradients, schedule=None):
    for forget, retain in gradients:
        parameter.grad = torch.full_like(parameter, forget)
        keep_apart({parameter: torch.full_like(parameter, retain)}, max_norm=100)
        optimiser.step()
        if schedule:
            schedule.step()
        optimiser.zero_grad()


def two_plain_optimisers(parameter, gradients, rates):
    """The forget gradient's step, then the retain gradient's, each by an AdamW of its own."""
    both = [AdamW([parameter], **SETTINGS) for _ in range(2)]
    for pair, rate in zip(gradients, rates, strict=True):
        for gradient, optimiser in zip(pair, both, strict=True):
            optimiser.param_groups[0]["lr"] = rate
            parameter.grad = torch.full_like(parameter, gradient)
            optimiser.step()


def test_first_step_by_hand():
    """Adam's first step is lr * sign of the gradient: +3 takes 0.1 off, -1 adds 0.1. Before each,
    the weights lose 0.1 * 0.01 = 1/1000 of themselves.

    1 * 0.999 - 0.1 = 0.899; 0.899 * 0.999 + 0.1 = 0.998101.
    -2 * 0.999 - 0.1 = -2.098; -2.098 * 0.999 + 0.1 = -1.995902.
    """
    parameter = weight()
    take_steps(DualOptim([parameter], **SETTINGS), parameter, GRADIENTS[:1])
    expected = torch.tensor([0.998101, -1.995902], dtype=torch.float64)
    torch.testing.assert_close(parameter.data, expected, rtol=0, atol=1e-8)


def test_steps_are_those_of_two_optimisers():
    ours, theirs = weight(), weight()
    take_steps(DualOptim([ours], **SETTINGS), ours, GRADIENTS)
    two_plain_optimisers(theirs, GRADIENTS, [0.1] * 3)
    assert torch.equal(ours, theirs)


def test_learning_rate_of_a_schedule_reaches_both():
    ours, theirs = weight(), weight()
    optimiser = DualOptim([ours], **SETTINGS)
    schedule = LambdaLR(optimiser, lambda step: 1 / (step + 1))
    take_steps(optimiser, ours, GRADIENTS, schedule)
    two_plain_optimisers(theirs, GRADIENTS, [0.1, 0.1 / 2, 0.1 / 3])
    assert torch.equal(ours, theirs)


def test_learning_rate_reaches_both_after_a_state_was_loaded():
    """As accelerate does before a training, and a checkpoint when it goes on."""
    ours, theirs = weight(), weight()
    optimiser = DualOptim([ours], **SETTINGS)
    schedule = LambdaLR(optimiser, lambda step: 1 / (step + 1))
    optimiser.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    take_steps(optimiser, ours, GRADIENTS, schedule)
    two_plain_optimisers(theirs, GRADIENTS, [0.1, 0.1 / 2, 0.1 / 3])
    assert torch.equal(ours, theirs)


def test_state_comes_back_as_it_went():
    undisturbed, first = weight(), weight()
    take_steps(DualOptim([undisturbed], **SETTINGS), undisturbed, GRADIENTS)
    before = DualOptim([first], **SETTINGS)
    take_steps(before, first, GRADIENTS[:2])
    second = Parameter(first.detach().clone())
    after = DualOptim([second], **SETTINGS)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    take_steps(after, second, GRADIENTS[2:])
    assert torch.equal(second, undisturbed)


def test_without_a_retain_gradient_it_is_one_optimiser():
    ours, theirs = weight(), weight()
    optimiser, plain = DualOptim([ours], **SETTINGS), AdamW([theirs], **SETTINGS)
    for forget, _ in GRADIENTS:
        for one, of in ((ours, optimiser), (theirs, plain)):
            one.grad = torch.full_like(one, forget)
            of.step()
    assert torch.equal(ours, theirs)


def test_groups_keep_settings_of_their_own():
    first, second = weight(), weight()
    groups = [{"params": [first], "weight_decay": 0.0}, {"params": [second]}]
    optimiser = DualOptim(groups, **SETTINGS)
    for one in (first, second):
        one.grad = torch.zeros_like(one)
        keep_apart({one: torch.zeros_like(one)}, max_norm=1)
    optimiser.step()
    assert first.tolist() == [1, -2]
    np.testing.assert_allclose(second.tolist(), [0.999**2, -2 * 0.999**2])


def test_retain_gradients_are_clipped_together():
    """(3, 0) and (0, 4) have the norm 5, clipped to 1."""
    first, second = weight(), weight()
    gradients = {first: torch.tensor([3.0, 0]), second: torch.tensor([0, 4.0])}
    for one in gradients:
        one.grad = torch.tensor([7.0, 7.0], dtype=torch.float64)
    assert keep_apart(gradients, max_norm=1) == {"retain_gradient_norm": 5}
    torch.testing.assert_close(getattr(first, APART), torch.tensor([0.6, 0]))
    torch.testing.assert_close(getattr(second, APART), torch.tensor([0, 0.8]))
    assert first.grad.tolist() == [7, 7]  # the Trainer clips these


def test_short_retain_gradients_stay_as_they_are():
    one = weight()
    keep_apart({one: torch.tensor([0.25, 0.5])}, max_norm=1)
    assert getattr(one, APART).tolist() == [0.25, 0.5]


# --- in a training ----------------------------------------------------------------------------


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 2), ("retain", 0, 2))


def test_both_gradients_are_clipped_in_a_training(unlearn, questions, monkeypatch):
    """A step of AdamW knows no scale, but a sum of steps does: gradients are seen as they come."""
    seen = []
    step = DualOptim.step

    def noted(self, closure=None):
        trained = [p for group in self.param_groups for p in group["params"]]
        grads = ([p.grad for p in trained], [getattr(p, APART) for p in trained])
        seen.append([torch.nn.utils.get_total_norm(one).item() for one in grads])
        return step(self)

    monkeypatch.setattr(DualOptim, "step", noted)
    own = {"optimiser": "dual_optim"}
    _, log = unlearn(questions, "gradient_ascent", "gradient_descent", own=own, max_grad_norm=0.1)
    assert (log[["gradient_norm", "retain_gradient_norm"]] > 0.1).all(axis=None)
    np.testing.assert_allclose(seen, 0.1, rtol=1e-4)


def test_learning_rate_warms_up_and_decays_as_any(unlearn, questions):
    own = {"optimiser": "dual_optim"}
    _, log = unlearn(questions, "idk", "gradient_descent", own=own, batch_size=1)
    expected = np.array([0, 1 / 2, 1, 3 / 4, 2 / 4, 1 / 4]) * 5e-3
    np.testing.assert_allclose(log["learning_rate"], expected, atol=1e-9)


def test_retain_gradient_that_is_not_finite_stops_the_last_step(unlearn, questions, monkeypatch):
    """After which there would be no loss to show it."""
    steps = []

    def diverging(logits, labels):
        steps.append(None)
        zero = (logits - logits.detach()).square().sum()
        return zero.sqrt() if len(steps) == 2 else zero  # with an infinite gradient

    monkeypatch.setitem(RETAIN, "gradient_descent", Loss(diverging, "GD", ""))
    own = {"optimiser": "dual_optim"}
    with pytest.raises(InputError, match=r"retain_gradient_norm is nan at step 2, rows"):
        unlearn(questions, "idk", "gradient_descent", own=own, epochs=2)
