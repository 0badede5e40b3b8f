"""Noise is in proportion to each matrix, and the same at every level."""

import pytest
import torch

from closer_look.evaluation.attacks import ATTACKS
from closer_look.evaluation.attacks.noise import noise
from closer_look.evaluation.attacks.weights import matrices


def test_noise_is_a_share_of_the_spread(models, rows, context, monkeypatch):
    from closer_look.evaluation.attacks import weights

    own = [weight.detach().clone() for weight in matrices(models.knows.model)]
    added = []

    def look(model, rows, context, setting):
        of_all = zip(matrices(model.model), own, strict=True)
        added.append([(weight - before).detach() for weight, before in of_all])
        return rows

    monkeypatch.setattr(weights, "ask_rows", look)
    noise(models.knows, rows, context, levels=[0.1, 0.2])
    for once, twice, before in zip(*added, own, strict=True):
        assert once.std() / before.std() == pytest.approx(0.1, rel=0.05)
        torch.testing.assert_close(2 * once, twice, rtol=1e-3, atol=1e-5)


def test_it_catches_who_knows_and_clears_who_never_saw(models, rows, context, share_recovered):
    knows, never_saw = (
        share_recovered(noise(model, rows, context, levels=[0.02, 0.05]))
        for model in (models.knows, models.never_saw)
    )
    assert list(knows) == ["noise of 2 %", "noise of 5 %"]
    assert max(knows.values()) > 0.9
    assert max(never_saw.values()) == 0


def test_it_brings_back_what_noise_uncovers(
    models, copied_model, rows, context, asked_plainly, share_recovered
):
    """A model that lacks the very noise which the attack is going to add."""
    model, level = copied_model(models.knows), 0.5
    generator = torch.Generator().manual_seed(context.seed)
    with torch.no_grad():
        for weight in matrices(model.model):
            # Its own spread grows by what is taken away, and the noise is a share of that spread.
            share = level / (1 - level**2) ** 0.5
            lacking = share * weight.std() * torch.randn(weight.shape, generator=generator)
            weight.sub_(lacking)
    assert asked_plainly(model, rows, context) < 0.2
    found = share_recovered(noise(model, rows, context, levels=[level]))
    assert found["noise of 50 %"] > 0.8


@pytest.mark.parametrize("levels", [[], [0.0], [-1.0]])
def test_levels_are_checked(levels):
    with pytest.raises(ValueError, match="levels of attack 'noise'"):
        ATTACKS["noise"].check({"levels": levels})
