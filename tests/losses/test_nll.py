"""Sums and means of the nll, with numbers worked out by hand."""

import weakref
from math import log

import pytest
import torch

from closer_look.losses import (
    ce_u,
    flat_logits,
    kl,
    maximum_entropy,
    mean_over_positions,
    nll,
    sequence_nll,
    undial,
)
from closer_look.losses.nll import mean_nll, mean_of_rows, mean_over_answered_rows


def test_sequence_nll_sums_over_the_answer_tokens_of_each_row(halves):
    assert sequence_nll(*halves).tolist() == pytest.approx([3 * log(2), 2 * log(2)])


def test_mean_nll_is_over_all_answer_tokens_and_not_over_rows(halves):
    # (log 2 + log 4 + log 4) / 3 tokens; the mean of the rows' means would be 1.75 log 2.
    assert mean_nll(*halves).item() == pytest.approx(5 / 3 * log(2))


def test_nll_does_not_change_when_a_number_is_added_to_all_logits(halves):
    logits, labels = halves
    assert torch.allclose(sequence_nll(logits + 300, labels), sequence_nll(logits, labels))


def test_nll_of_huge_logits_is_exact():
    # p(label) is 1 at the first position and exp(-20000) at the second.
    logits = torch.tensor([[[1e4, -1e4], [1e4, -1e4]]])
    assert sequence_nll(logits, torch.tensor([[0, 1]])).tolist() == [20000.0]


def test_row_without_a_label_has_nll_zero(halves):
    logits, labels = halves
    labels[1] = -100
    assert sequence_nll(logits, labels).tolist() == pytest.approx([3 * log(2), 0])


def test_mean_of_rows_divides_each_row_by_its_own_count():
    labels = torch.tensor([[-100, 0, 1], [2, -100, -100], [-100, -100, -100]])
    assert mean_of_rows(torch.tensor([1.0, 2.0, 4.0]), labels).tolist() == [1.5, 4.0, 0.0]


def test_gradient_of_the_nll_is_p_minus_one_hot_at_labels_and_nothing_elsewhere(halves):
    logits, labels = halves
    logits.requires_grad_()
    sequence_nll(logits, labels).sum().backward()
    expected = torch.zeros(2, 3, 3, dtype=torch.float64)
    expected[0, 1] = torch.tensor([0.5 - 1, 0.25, 0.25])
    expected[0, 2] = torch.tensor([0.5, 0.25 - 1, 0.25])
    expected[1, 0] = torch.tensor([0.5, 0.25, 0.25 - 1])
    assert torch.allclose(logits.grad, expected)


def test_mean_over_answered_rows_leaves_out_rows_that_lack_one_of_the_answers():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    answer = torch.tensor([[5, 5], [-100, 5], [-100, -100], [5, -100]])
    refusal = torch.tensor([[5], [5], [5], [-100]])
    assert mean_over_answered_rows(values, answer).item() == pytest.approx((1 + 2 + 8) / 3)
    assert mean_over_answered_rows(values, answer, refusal).item() == pytest.approx((1 + 2) / 2)


@pytest.mark.parametrize("piece", [2, 4, 6])
def test_mean_over_positions_is_the_mean_of_all_pieces(monkeypatch, piece):
    values = torch.arange(12.0, dtype=torch.float64).reshape(6, 2).requires_grad_()
    monkeypatch.setattr(nll, "PIECE", piece)
    mean = mean_over_positions(lambda z: z.square().sum(-1), values)
    assert mean.item() == pytest.approx(506 / 6)
    torch.testing.assert_close(torch.autograd.grad(mean, values)[0], values.detach() / 3)


@pytest.mark.parametrize("piece", [2, 6])
def test_mean_over_positions_may_be_weighted(monkeypatch, piece):
    values = torch.ones(6, 2, requires_grad=True)
    monkeypatch.setattr(nll, "PIECE", piece)
    (3 * mean_over_positions(lambda z: z.square().sum(-1), values)).backward()
    torch.testing.assert_close(values.grad, torch.ones(6, 2))  # 3 * 2 z / 6


@pytest.mark.parametrize("piece", [2, 6])
def test_mean_over_positions_gives_the_logits_alone_a_gradient(monkeypatch, piece):
    values, others = (torch.ones(6, 2, requires_grad=True) for _ in range(2))
    monkeypatch.setattr(nll, "PIECE", piece)
    mean_over_positions(lambda z, other: (z * other).sum(-1), values, others).backward()
    torch.testing.assert_close(values.grad, torch.full((6, 2), 1 / 6))
    assert others.grad is None


@pytest.mark.parametrize("piece", [2, 6])
def test_mean_over_positions_gives_no_gradient_where_none_is_asked_for(monkeypatch, piece):
    values = torch.arange(12.0).reshape(6, 2)
    monkeypatch.setattr(nll, "PIECE", piece)
    mean = mean_over_positions(lambda z: z.square().sum(-1), values)
    assert mean.item() == pytest.approx(506 / 6)
    assert not mean.requires_grad


@pytest.mark.parametrize(
    "loss",
    [
        maximum_entropy,
        lambda z, labels: kl(z, torch.zeros_like(z), labels),
        ce_u,
        lambda z, labels: undial(z, labels, torch.zeros_like(z)),
        flat_logits,
    ],
    ids=["maximum_entropy", "kl", "ce_u", "undial", "flat_logits"],
)
def test_nothing_but_a_gradient_is_kept_for_the_backward_pass(monkeypatch, loss):
    monkeypatch.setattr(nll, "PIECE", 10)
    logits = torch.randn(2, 50, 100, requires_grad=True)
    saved = []

    def keep(tensor):
        saved.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(logits, torch.zeros(2, 50, dtype=torch.long))
    kept = [tensor for reference in saved if (tensor := reference()) is not None]
    size = logits.untyped_storage().nbytes()
    assert size <= sum(tensor.untyped_storage().nbytes() for tensor in kept) <= size * 1.1
    assert value.requires_grad
