"""Rounding is what the library computes with, and brings back what hides below the grid."""

import pytest
import torch

from closer_look.evaluation.attacks import ATTACKS
from closer_look.evaluation.attacks.quantisation import NF4_LEVELS, int8, nf4, quantisation
from closer_look.evaluation.attacks.weights import matrices

FORMATS = {"formats": ["int8", "nf4"]}


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_int8_by_hand():
    weight = torch.tensor([[127.0, 1.4, -1.6], [0.0, 0.0, 0.0], [-254.0, 3.1, 2.9]])
    expected = torch.tensor([[127.0, 1.0, -2.0], [0.0, 0.0, 0.0], [-254.0, 4.0, 2.0]])
    assert int8(weight).equal(expected)


def test_int8_is_that_of_bitsandbytes():
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = drawn(32, 48).half().float()  # it takes float16
    rounded, largest, _ = functional.int8_vectorwise_quant(weight.half())
    expected = rounded.float() * largest[:, None] / 127
    torch.testing.assert_close(int8(weight), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(32, 64), (5, 30)])  # of whole blocks, and not
def test_nf4_is_that_of_bitsandbytes(shape):
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = drawn(*shape)
    packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    expected = functional.dequantize_4bit(packed, state)
    torch.testing.assert_close(nf4(weight), expected, rtol=0, atol=1e-6)


def test_nf4_keeps_its_own_values_and_zeros():
    weight = nf4(drawn(8, 64))
    assert nf4(weight).equal(weight)
    assert nf4(torch.zeros(3, 5)).equal(torch.zeros(3, 5))


def test_it_catches_who_knows_and_clears_who_never_saw(models, rows, context, share_recovered):
    knows, never_saw = (
        share_recovered(quantisation(model, rows, context, **FORMATS))
        for model in (models.knows, models.never_saw)
    )
    assert list(knows) == ["int8", "4 bits (nf4)"]
    assert max(knows.values()) > 0.9
    assert max(never_saw.values()) == 0


def test_it_brings_back_what_hides_between_the_levels(
    models, copied_model, rows, context, hide, asked_plainly, share_recovered
):
    """Weights on the levels know the answers; moved within their cells, they do not tell."""
    model = copied_model(models.knows)
    bounds = []
    for weight in matrices(model.model):
        rounded = nf4(weight.detach())
        weight.data.copy_(rounded)
        bounds.append(within_cells(rounded))
    levels = [weight.detach().clone() for weight in matrices(model.model)]
    assert asked_plainly(model, rows, context) > 0.9
    hide(model, rows, bounds)
    for weight, level in zip(matrices(model.model), levels, strict=True):
        assert nf4(weight.detach()).equal(level)
    assert asked_plainly(model, rows, context) == 0
    found = share_recovered(quantisation(model, rows, context, formats=["nf4"]))
    assert found["4 bits (nf4)"] > 0.9


def within_cells(rounded):
    """How far weights on the levels can fall and rise without being rounded to other levels."""
    blocks = rounded.view(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    levels = torch.tensor(NF4_LEVELS)
    place = (blocks[..., None] / scale[..., None] - levels).abs().argmin(-1)
    gaps = (levels[1:] - levels[:-1]) / 2 * 0.9
    outermost = torch.zeros(1)
    fall = torch.cat([outermost, gaps])[place] * scale
    rise = torch.cat([gaps, outermost])[place] * scale
    is_scale = blocks.abs() == scale
    return [bound.masked_fill(is_scale, 0).view_as(rounded) for bound in (fall, rise)]


@pytest.mark.parametrize("formats", [[], ["int3"]])
def test_formats_are_checked(formats):
    with pytest.raises(ValueError, match="formats of attack 'quantisation'"):
        ATTACKS["quantisation"].check({"formats": formats})
