"""Losses of the whole next-token distribution, with numbers worked out by hand."""

from math import log

import pytest
import torch

from closer_look.losses import ce_u, flat_logits, undial


def test_ce_u_shares_the_true_tokens_probability_out_among_the_others(halves):
    # p = (1/2, 1/4, 1/4). Label 0: q = (0, 1/2, 1/2), -q log p = 2 log 2; labels 1 and 2:
    # q = (2/3, 0, 1/3) and (2/3, 1/3, 0), 2/3 log 2 + 1/3 log 4 = 4/3 log 2.
    loss = ce_u(*halves, ignore_first=0)
    assert loss.item() == pytest.approx((2 + 4 / 3 + 4 / 3) / 3 * log(2))


@pytest.mark.parametrize(("ignore_first", "expected"), [(1, 4 / 3 * log(2)), (2, 0)])
def test_ce_u_leaves_out_the_first_tokens_of_each_row(halves, ignore_first, expected):
    # Row 0 has labels 0 and 1, row 1 has label 2 alone: the second of row 0 is left, then none.
    loss = ce_u(*halves, ignore_first=ignore_first)
    assert loss.item() == pytest.approx(expected)


def test_ce_u_has_gradient_p_minus_q_where_it_counts(halves):
    # q is a constant: at label 1, p - q = (1/2 - 2/3, 1/4, 1/4 - 1/3).
    logits, labels = halves
    logits.requires_grad_()
    ce_u(logits, labels).backward()
    expected = torch.zeros(2, 3, 3, dtype=torch.float64)
    expected[0, 2] = torch.tensor([-1 / 6, 1 / 4, -1 / 12], dtype=torch.float64)
    torch.testing.assert_close(logits.grad, expected)


def test_ce_u_of_huge_logits_is_finite():
    # The true token is certain; of the two others the second is: -log p = 2e4.
    logits = torch.tensor([[[1e4, -2e4, -1e4]]], requires_grad=True)
    loss = ce_u(logits, torch.tensor([[0]]), ignore_first=0)
    loss.backward()
    assert loss.item() == 2e4
    assert logits.grad.tolist() == [[[1, 0, -1]]]


def test_undial_takes_beta_off_the_references_true_token(halves):
    # The reference is the model, beta = log 2 halves the true token before it sums to 1 again.
    # Label 0: (1/4, 1/4, 1/4), so 1/3 each, (1/3 + 2/3 * 2) log 2 = 5/3 log 2; labels 1 and 2:
    # (1/2, 1/8, 1/4), so (4/7, 1/7, 2/7), (4/7 + 3/7 * 2) log 2 = 10/7 log 2.
    logits, labels = halves
    loss = undial(logits, labels, logits, beta=log(2))
    assert loss.item() == pytest.approx((5 / 3 + 10 / 7 + 10 / 7) / 3 * log(2))


def test_undial_gradient_is_p_minus_the_target(halves):
    # Label 0: (1/2 - 1/3, 1/4 - 1/3, 1/4 - 1/3) over 3 positions.
    logits, labels = halves
    reference_logits = logits.clone()
    undial(logits.requires_grad_(), labels, reference_logits, beta=log(2)).backward()
    expected = torch.tensor([1 / 6, -1 / 12, -1 / 12], dtype=torch.float64) / 3
    torch.testing.assert_close(logits.grad[0, 1], expected)


def test_undial_without_beta_leaves_the_reference_where_it_is(halves):
    logits, labels = halves
    undial(logits.requires_grad_(), labels, logits.detach(), beta=0.0).backward()
    assert logits.grad.abs().max().item() == pytest.approx(0, abs=1e-12)


def test_undial_takes_single_positions_as_kl_does(batch):
    answered = batch["labels"] != -100
    alone = (batch[name][answered] for name in ("logits", "labels", "reference_logits"))
    whole = undial(batch["logits"], batch["labels"], batch["reference_logits"])
    assert undial(*alone) == whole


@pytest.mark.parametrize("shift", [0, 7])
def test_flat_logits_is_the_square_of_how_far_the_greatest_stands_out(shift):
    # (3 - 1) ** 2 = 4 at the first position and 0 at the second; the third has no label.
    logits = torch.tensor([[[3.0, 1.0, -1.0], [5.0, 5.0, 5.0], [9.0, 0.0, 0.0]]]) + shift
    assert flat_logits(logits, torch.tensor([[1, 0, -100]])).item() == 2


def test_flat_logits_pushes_the_greatest_down_and_all_others_up():
    # 2 (max - mean) (one_hot - 1/3) = 4 (2/3, -1/3, -1/3).
    logits = torch.tensor([[[3.0, 1.0, -1.0]]], requires_grad=True)
    flat_logits(logits, torch.tensor([[2]])).backward()
    assert logits.grad.flatten().tolist() == pytest.approx([8 / 3, -4 / 3, -4 / 3])
