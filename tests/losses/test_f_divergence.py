"""FLAT, with numbers worked out by hand."""

from math import exp, log, tanh

import pytest
import torch

from closer_look.losses import flat


@pytest.fixture
def texts(halves):
    """Answers whose tokens have the mean probability (3/8, 1/4), refusals of (1/2, 1/4).

    Answers: (1/2 + 1/4) / 2 and 1/4. Refusals: one token of 1/2, two of 1/4.
    """
    logits, labels = halves
    return logits, labels, logits, torch.tensor([[0, -100, -100], [1, -100, 2]])


@pytest.mark.parametrize(
    ("divergence", "rows"),
    [
        # g = tanh(P) / 2 on both sides; equal in row 1.
        ("total_variation", [tanh(3 / 8) / 2 - tanh(1 / 2) / 2, 0]),
        # exp(P - 1) - P_idk
        ("kl", [exp(3 / 8 - 1) - 1 / 2, exp(1 / 4 - 1) - 1 / 4]),
        # f*(g) = -log(2 - 2 / (1 + e^-P)) = log((1 + e^P) / 2); g = log(2 / (1 + e^-P))
        (
            "jensen_shannon",
            [
                log((1 + exp(3 / 8)) / 2) - log(2 / (1 + exp(-1 / 2))),
                log((1 + exp(1 / 4)) / 2) - log(2 / (1 + exp(-1 / 4))),
            ],
        ),
        # P ** 2 / 4 + P - P_idk: 9/256 + 3/8 - 1/2 and 1/64 + 1/4 - 1/4.
        ("pearson", [-23 / 256, 1 / 64]),
    ],
)
def test_flat(texts, divergence, rows):
    assert flat(*texts, divergence=divergence).item() == pytest.approx(sum(rows) / 2)


def test_flat_is_by_default_the_total_variation(texts):
    assert flat(*texts) == flat(*texts, "total_variation")


@pytest.mark.parametrize("divergence", ["total_variation", "kl", "jensen_shannon", "pearson"])
def test_flat_lowers_the_answer_and_raises_the_refusal(texts, divergence):
    logits, labels, _, idk_labels = texts
    idk_logits = logits.clone().requires_grad_()
    flat(logits.requires_grad_(), labels, idk_logits, idk_labels, divergence).backward()
    assert logits.grad[0, 1, 0] > 0  # at label 0: descent makes it less likely
    assert idk_logits.grad[0, 0, 0] < 0


def test_rows_without_an_answer_or_a_refusal_are_left_out_of_flat(texts):
    logits, labels, idk_logits, idk_labels = texts
    idk_labels[1] = -100
    loss = flat(logits, labels, idk_logits, idk_labels, "pearson")
    assert loss.item() == pytest.approx(-23 / 256)


def test_flat_names_the_divergences_when_given_another(texts):
    message = "one of 'total_variation', 'kl', 'jensen_shannon', 'pearson', not 'hellinger'"
    with pytest.raises(ValueError, match=message):
        flat(*texts, divergence="hellinger")
