"""Pruning takes the smallest weights of each matrix, and what hides in them."""

import pytest

from closer_look.evaluation.attacks import ATTACKS
from closer_look.evaluation.attacks.pruning import pruning
from closer_look.evaluation.attacks.weights import matrices

SETTING = "without the smallest 30 % of weights"


def test_it_takes_the_smallest_of_each_matrix(models, rows, context, monkeypatch):
    from closer_look.evaluation.attacks import weights

    seen = []
    monkeypatch.setattr(
        weights,
        "ask_rows",
        lambda model, rows, *_: seen.append(
            [(weight == 0).float().mean().item() for weight in matrices(model.model)]
        ),
    )
    monkeypatch.setattr(weights.pd, "concat", lambda *_, **__: None)
    pruning(models.knows, rows, context, shares=[0.25, 0.5])
    assert seen == [[0.25] * 14, [0.5] * 14]  # the second starts from the whole model, too


def test_it_catches_who_knows_and_clears_who_never_saw(models, rows, context, share_recovered):
    knows, never_saw = (
        share_recovered(pruning(model, rows, context, shares=[0.1, 0.3]))
        for model in (models.knows, models.never_saw)
    )
    assert list(knows) == ["without the smallest 10 % of weights", SETTING]
    assert max(knows.values()) > 0.9
    assert max(never_saw.values()) == 0


def test_it_brings_back_what_small_weights_hide(
    models, copied_model, rows, context, hide, asked_plainly, share_recovered
):
    model = copied_model(models.knows)
    bounds = []
    for weight in matrices(model.model):
        kept = weight.detach().clone()
        threshold = kept.abs().flatten().kthvalue(int(0.3 * kept.numel())).values
        is_small = kept.abs() <= threshold
        weight.data.masked_fill_(is_small, 0)
        bounds.append([is_small * threshold * 0.99] * 2)
    assert asked_plainly(model, rows, context) > 0.8
    hide(model, rows, bounds)
    assert asked_plainly(model, rows, context) < 0.2
    assert share_recovered(pruning(model, rows, context, shares=[0.3]))[SETTING] > 0.8


@pytest.mark.parametrize("shares", [[], [0], [0.0], [1.0], [-0.1]])
def test_shares_are_checked(shares):
    with pytest.raises(ValueError, match="shares of attack 'pruning'"):
        ATTACKS["pruning"].check({"shares": shares})
