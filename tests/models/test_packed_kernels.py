"""Whatever kernel packed rows attend with, their logits and gradients are the same."""

import copy
import inspect

import numpy as np
import pytest
import torch
from torch.nn.attention import flex_attention, varlen
from torch.nn.functional import scaled_dot_product_attention

from closer_look.models.packed_kernels import attend_by_varlen
from closer_look.models.packing import FLEX, PACKED, VARLEN, answer_logits, pack, packed_attention
from closer_look.models.tokens import Tokens

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

ROWS = [
    Tokens([5, 6, 7, 8], [9, 0]),
    Tokens([5, 6, 7, 8], [4, 4, 0]),  # the same question, another answer
    Tokens([3, 4], [0]),
    Tokens([5], [6, 3, 8, 0]),  # begins as the first, and parts within the answer
    Tokens([3, 4], [0]),  # is there
]
# Of the families that take packed rows: with grouped queries, sliding windows, norms of queries and
# keys, scales of their own, and without rotary embeddings.
FAMILIES = ["llama", "mistral", "qwen3", "gemma3_text", "gpt_neox", "gpt2"]
LIKEWISE = ("scale", "window_size", "enable_gqa")  # options that are given each time


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    """Flex attention as it is, uncompiled, and varlen attention as its documentation says."""

    documented = inspect.signature(varlen.varlen_attn)

    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, **options):
        given = documented.bind(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, **options)
        scale, window_size, enable_gqa = map(given.arguments.get, LIKEWISE)
        before, after = window_size
        assert after == 0, "causal"
        lengths_q, lengths_k = (one.diff().tolist() for one in (cu_seq_q, cu_seq_k))
        assert (max(lengths_q), max(lengths_k)) == (max_q, max_k)
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert (cu_seq_q[-1], cu_seq_k[-1]) == (len(query), len(key))
        rows = []
        parts = (query.split(lengths_q), key.split(lengths_k), value.split(lengths_k))
        for of_row in zip(*parts, strict=True):
            q, k, v = (states.transpose(0, 1)[None] for states in of_row)
            n, m = q.shape[2], k.shape[2]
            # The last query stands at the last key.
            distance = torch.arange(m - n, m)[:, None] - torch.arange(m)
            seen = (distance >= 0) & ((before < 0) | (distance <= before))
            attended = scaled_dot_product_attention(
                q, k, v, seen, scale=scale, enable_gqa=enable_gqa
            )
            rows.append(attended[0].transpose(0, 1))
        return torch.cat(rows)

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    # It refuses a backward pass on a CPU, where only its compiled form has none.
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    with torch.compiler.set_stance("force_eager"):
        yield


def long_rows():
    """Rows of more than one block of flex attention, in a tree of three levels, in no order."""
    generator = np.random.default_rng(4)
    system, *questions = (generator.integers(1, 40, n).tolist() for n in (60, 80, 9, 110))
    rows = [
        Tokens(system + question, generator.integers(1, 40, n).tolist())
        for question in questions
        for n in (1, 7, 70)
    ]
    return [rows[i] for i in generator.permutation(len(rows))]


@torch.inference_mode()
@pytest.mark.parametrize("kernel", [FLEX, VARLEN])
@pytest.mark.parametrize("rows", [ROWS, long_rows()], ids=["short", "long"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_groups(make_family, family, rows, kernel):
    model = make_family(family).model
    batch = pack(rows)
    with packed_attention(model):
        expected = answer_logits(model, batch)
    with packed_attention(model, kernel=kernel):
        assert model.config._attn_implementation == kernel
        torch.testing.assert_close(answer_logits(model, batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [FLEX, VARLEN])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_gradients_are_those_of_groups(make_family, family, kernel):
    model = make_family(family).model.train()

    def gradients(kernel, checkpointing=False):
        own = copy.deepcopy(model)
        if checkpointing:
            own.activation_checkpointing_enable()
        with packed_attention(own, kernel=kernel):
            answer_logits(own, pack(long_rows())).square().mean().backward()
        return [one.grad for one in own.parameters()]

    expected = gradients(PACKED)
    for found in (gradients(kernel), gradients(kernel, checkpointing=True)):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kernel", [FLEX, VARLEN])
def test_where_values_are_bf16_attention_is(make_family, kernel):
    """Rotary embeddings leave queries and keys in fp32 under autocast."""
    model = make_family("llama").model.train()
    with torch.autocast("cpu", torch.bfloat16):
        with packed_attention(model):
            expected = answer_logits(model, pack(ROWS))
        with packed_attention(model, kernel=kernel):
            logits = answer_logits(model, pack(ROWS))
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.2)


def test_varlen_attention_refuses_dropout():
    with pytest.raises(ValueError, match="varlen attention has no dropout"):
        attend_by_varlen(None, None, None, None, None, sequences=None, dropout=0.1)
