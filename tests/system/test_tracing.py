"""What runs without numbers is counted as on a real device: bytes alive, and operations."""

import pytest
import torch
from torch.nn import functional

from closer_look.system.tracing import Trace, traced

FLOAT = 4


def meta(*shape, **options):
    return torch.empty(*shape, device="meta", **options)


def test_bytes_are_those_alive_at_a_time():
    trace = Trace()
    with traced(trace):
        one = meta(100)
        two = one * 2
        del one
        three = two + 1
        assert trace.live == 200 * FLOAT
        del two
    assert trace.live == three.numel() * FLOAT
    assert trace.peak == 200 * FLOAT


def test_what_was_there_before_and_views_of_it_do_not_count():
    trace, weight = Trace(), meta(10, 10)
    trace.leave_out([weight])
    with traced(trace):
        _ = weight.T[:3]
    assert trace.peak == 0


def test_what_the_backward_pass_keeps_counts_until_it_has_run():
    trace, weight = Trace(), meta(100, requires_grad=True)
    trace.leave_out([weight])
    with traced(trace):
        loss = weight.exp().sum()  # keeps the output of exp
        assert trace.live == 100 * FLOAT + FLOAT
        loss.backward()
        del loss
    assert trace.live == 100 * FLOAT  # the gradient


def test_operations_are_those_of_the_products():
    trace = Trace()
    weight = meta(30, 20, requires_grad=True)
    with traced(trace):
        functional.linear(meta(10, 20, requires_grad=True), weight).sum().backward()
    assert trace.flops == 3 * 2 * 10 * 20 * 30  # forward, and two gradients


@pytest.mark.parametrize("heads", [4, 2], ids=["as many keys", "fewer keys"])
def test_attention_is_the_fused_one(heads):
    """It keeps its output and a number per query, and no (query, key) table."""
    trace, length = Trace(), 1000
    query = meta(1, 4, length, 8, requires_grad=True)
    key = meta(1, heads, length, 8, requires_grad=True)
    with traced(trace):
        attended = functional.scaled_dot_product_attention(
            query, key, key, is_causal=True, enable_gqa=heads < 4
        )
        attended.sum().backward()
    assert trace.peak < 4 * length * length * FLOAT
    assert functional.scaled_dot_product_attention is torch._C._nn.scaled_dot_product_attention


@pytest.mark.parametrize("is_trained", [True, False])
def test_half_precision_casts_a_trained_weight_once(is_trained):
    trace, weight = Trace(), meta(50, 50, requires_grad=is_trained)
    trace.leave_out([weight])
    states = meta(1, 50, requires_grad=True)
    with traced(trace, "bf16"):
        outputs = [functional.linear(states, weight) for _ in range(2)]
        assert outputs[0].dtype == torch.bfloat16
    casts = 1 if is_trained else 2
    assert casts * 5000 <= trace.live < casts * 5000 + 2000


def test_autocast_keeps_casts_of_trained_weights_until_it_ends():
    trace, weight = Trace(), meta(50, 50, requires_grad=True)
    trace.leave_out([weight])
    with traced(trace, "bf16") as end_autocast:
        functional.linear(meta(1, 50), weight)
        assert trace.live == 5000
        end_autocast()
        assert trace.live == 0
        functional.linear(meta(1, 50), weight)  # a layer that is computed again
        assert trace.live == 0


def test_casts_of_weights_that_are_sent_in_half_do_not_count():
    trace, weight = Trace(), meta(50, 50, requires_grad=True)
    trace.leave_out([weight])
    with traced(trace, "bf16", [weight]):
        output = functional.linear(meta(1, 50), weight)
        assert trace.live == 2 * (50 + 50)  # states, and the output
    output.float().sum().backward()
    assert weight.grad.dtype == torch.float32


def test_numbers_may_be_mixed_in_and_masks_choose_what_they_choose():
    labels = torch.tensor([3, -100, 5])
    with traced(Trace()):
        chosen = meta(3, 7)[labels != -100]
        assert chosen.shape == (2, 7)
        loss = functional.cross_entropy(chosen, labels[labels != -100])
        assert loss.is_meta


def test_a_mask_without_numbers_chooses_all():
    with traced(Trace()):
        values = meta(6)
        assert values[values > 0].shape == (6,)


@pytest.mark.parametrize(("numbers", "answer"), [(1.0, True), (0.0, False)])
def test_a_number_that_is_asked_for_is_given(numbers, answer):
    with traced(Trace(numbers)):
        assert meta(()).item() == numbers
        assert bool(meta(()) > 3) is answer
