"""Losses that retain, with numbers worked out by hand."""

from math import log

import pytest
import torch

from closer_look.losses.retain import answer_preservation, gradient_descent, kl, rmu


def log_tensor(*probabilities):
    return torch.tensor([[probabilities]], dtype=torch.float64).log()


def test_gradient_descent_is_the_cross_entropy(halves):
    # nll: log 2, log 4, log 4 over three tokens.
    assert gradient_descent(*halves).item() == pytest.approx(5 / 3 * log(2))


def test_kl_is_from_the_reference_to_the_model():
    # KL(p_ref || p) = 1/2 log(1/2 / 1/4) + 1/2 log(1/2 / 3/4) = log(4/3) / 2;
    # the other way it would be 1/4 log(1/2) + 3/4 log(3/2).
    loss = kl(log_tensor(0.25, 0.75), log_tensor(0.5, 0.5))
    assert loss.item() == pytest.approx(log(4 / 3) / 2)


def test_kl_is_zero_on_the_reference_itself(batch):
    assert kl(batch["logits"], batch["logits"] + 3).item() == pytest.approx(0, abs=1e-12)


def test_kl_averages_over_every_position_or_over_those_with_a_label():
    # log(4/3)/2 at the first position, 0 at the two others.
    logits = torch.cat([log_tensor(0.25, 0.75), log_tensor(0.5, 0.5), log_tensor(0.5, 0.5)], dim=1)
    reference_logits = torch.zeros(1, 3, 2)
    labels = torch.tensor([[1, -100, 0]])
    assert kl(logits, reference_logits).item() == pytest.approx(log(4 / 3) / 6)
    assert kl(logits, reference_logits, labels).item() == pytest.approx(log(4 / 3) / 4)


def test_kl_of_huge_logits_is_finite():
    # Both are certain, of different words: log p_ref - log p = 0 - (-2e4).
    logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    loss = kl(logits, -logits)
    loss.backward()
    assert loss.item() == 2e4
    assert logits.grad.tolist() == [[[1.0, -1.0]]]


def test_kl_gradient_is_p_minus_p_ref_and_leaves_the_reference_alone():
    logits = log_tensor(0.25, 0.75).requires_grad_()
    reference_logits = log_tensor(0.5, 0.5).requires_grad_()
    kl(logits, reference_logits).backward()
    assert logits.grad.flatten().tolist() == pytest.approx([0.25 - 0.5, 0.75 - 0.5])
    assert reference_logits.grad is None


@pytest.fixture
def answer_and_refusal(halves):
    """Answers with nll (3, 2) log 2, refusals with nll (4, 1) log 2."""
    logits, labels = halves
    idk_labels = torch.tensor([[1, 1, -100], [0, -100, -100]])
    return logits.requires_grad_(), labels, logits.detach().clone().requires_grad_(), idk_labels


def test_answer_preservation(answer_and_refusal):
    # nll(y_idk) - nll(y) = (1, -1) log 2; sigma = 2/3, 1/3; -(log 2/3 + log 1/3) / 2 = log(9/2)/2.
    assert answer_preservation(*answer_and_refusal, beta=1.0).item() == pytest.approx(log(4.5) / 2)


def test_answer_preservation_divides_by_beta(answer_and_refusal):
    # beta = 2: sigma(2 log 2) = 4/5, sigma(-2 log 2) = 1/5; -(log 4/25) / 2 / 2.
    loss = answer_preservation(*answer_and_refusal, beta=2.0)
    assert loss.item() == pytest.approx(log(25 / 4) / 4)


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_answer_preservation_gradient_fades_once_the_answer_wins(answer_and_refusal, beta):
    # d / d nll(y) = weight / B with weight = 1 / (1 + (p(y) / p(y_idk)) ** beta); p(y) / p(y_idk)
    # is 2 on row 0 and 1/2 on row 1. d nll / d logit of the label is p(label) - 1.
    logits, labels, idk_logits, idk_labels = answer_and_refusal
    answer_preservation(logits, labels, idk_logits, idk_labels, beta=beta).backward()
    weight = [1 / (1 + 2**beta), 1 / (1 + 0.5**beta)]
    assert logits.grad[0, 1, 0].item() == pytest.approx(weight[0] / 2 * (0.5 - 1))
    assert logits.grad[1, 0, 2].item() == pytest.approx(weight[1] / 2 * (0.25 - 1))
    assert idk_logits.grad[0, 0, 1].item() == pytest.approx(-weight[0] / 2 * (0.25 - 1))
    assert idk_logits.grad[1, 0, 0].item() == pytest.approx(-weight[1] / 2 * (0.5 - 1))


def test_rows_without_an_answer_or_a_refusal_are_left_out_of_answer_preservation(
    answer_and_refusal,
):
    logits, labels, idk_logits, idk_labels = answer_and_refusal
    idk_labels[1] = -100
    # Row 0 alone: -log sigma(log 2) = log 1.5.
    loss = answer_preservation(logits, labels, idk_logits, idk_labels, beta=1.0)
    assert loss.item() == pytest.approx(log(1.5))


@pytest.fixture
def states():
    """States and the reference's: 2 answered positions in row 0, 1 in row 1, hidden size 2."""
    activations = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [4.0, 1.0]], [[1.0, 4.0], [9, 9], [9, 9]]])
    reference = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [4.0, 1.0]], [[-2.0, 1.0], [0, 0], [0, 0]]])
    return activations.requires_grad_(), reference, torch.tensor([[-100, 0, 1], [2, -100, -100]])


def test_rmu_averages_over_a_rows_own_positions_and_then_over_rows(states):
    # Row 0 (0 + 4)/2 = 2 and 0, mean 1; row 1 (9 + 9)/2 = 9; (1 + 9) / 2 = 5. Over all positions it
    # would be 11/3.
    activations, reference, labels = states
    assert rmu(activations, reference, labels).item() == 5
    selected = (one[labels != -100] for one in (activations, reference))
    assert rmu(*selected, labels).item() == 5


def test_rmu_is_zero_on_the_reference_itself(states):
    _, reference, labels = states
    assert rmu(reference, reference, labels).item() == 0


def test_rmu_gradient_leaves_the_reference_alone(states):
    # 2 (a - a_ref) / 2 (hidden size) / 2 (positions of row 0) / 2 (rows); row 1 has one position.
    activations, reference, labels = states
    rmu(activations, reference.requires_grad_(), labels).backward()
    assert activations.grad[0].tolist() == [[0, 0], [0, 0.5], [0, 0]]
    assert activations.grad[1].tolist() == [[1.5, 1.5], [0, 0], [0, 0]]
    assert reference.grad is None
