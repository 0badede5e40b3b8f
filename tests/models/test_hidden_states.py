"""Hidden states of a layer are those of a plain forward pass, and so are their gradients."""

import pytest
import torch

from closer_look.errors import InputError
from closer_look.models.adapters import with_adapter
from closer_look.models.hidden_states import hooked_layers, layer_number, layer_states
from closer_look.models.packing import PACKED, pack, packed_attention
from closer_look.models.tokens import Tokens
from closer_look.parameters.training import LoraParameters

LAYERS = {"num_hidden_layers": 3}
FAMILIES = {
    "llama": LAYERS,
    "gpt2": LAYERS | {"n_layer": 3},
    "gpt_neox": LAYERS,
    "opt": LAYERS,
    "gemma3_text": LAYERS | {"layer_types": ["sliding_attention"] * 2 + ["full_attention"]},
    "mixtral": LAYERS,  # a mixture of experts
    "gemma3": LAYERS,  # sees, too
    # Not packed:
    "gemma2": LAYERS | {"layer_types": ["sliding_attention"] * 3},
    "mamba": LAYERS,
}
ONE_BY_ONE = {"gemma2", "mamba"}
ROWS = [
    Tokens([5, 6, 7, 8], [9, 0]),
    Tokens([5, 6, 7, 8], [4, 4, 0]),  # the same question, another answer
    Tokens([3, 4], [0]),
]


def plain(model, rows, layer):
    """Hidden states behind a layer at the answers' tokens, each row by itself: (n, size)."""
    found = []
    for row in rows:
        ids = torch.tensor([row.prompt + row.answer])
        states = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        is_first_the_embeddings = model.config.model_type != "mamba"
        found.append(states[layer + is_first_the_embeddings][0, len(row.prompt) :])
    return torch.cat(found)


def at_answers(model, rows, layer):
    with packed_attention(model):
        return layer_states(model, pack([row.one_later() for row in rows]), layer)


def gradients(model, states):
    """Of a sum of the states in which each has a weight of its own."""
    model.zero_grad()
    weights = torch.linspace(-1, 1, states.numel()).reshape(states.shape)
    (states * weights).sum().backward()
    return {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None and weight.grad.any()
    }


@pytest.fixture(params=FAMILIES)
def family(request, make_family):
    made = make_family(request.param, **FAMILIES[request.param]).model
    with packed_attention(made):
        assert (made.config._attn_implementation != PACKED) == (request.param in ONE_BY_ONE)
    return made


@pytest.mark.parametrize("layer", [0, 1])
def test_states_and_gradients_are_those_of_a_plain_forward_pass(family, layer):
    expected, states = (f(family, ROWS, layer) for f in (plain, at_answers))
    assert states.shape == (6, 32)
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)
    before = family(torch.tensor([[5, 6, 7]])).logits  # the other layers are there again
    expected, found = (gradients(family, one) for one in (expected, states))
    assert found.keys() == expected.keys()
    assert not [name for name in found if f".{layer + 1}." in name]  # none behind the layer
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-3, msg=name)
    assert torch.equal(family(torch.tensor([[5, 6, 7]])).logits, before)


def test_states_are_not_those_that_predict_the_answer(make_family):
    model = make_family("llama", **LAYERS).model
    one_before = [Tokens(row.prompt[:-1], row.prompt[-1:] + row.answer[:-1]) for row in ROWS]
    predicting = plain(model, one_before, 1)
    with packed_attention(model):
        torch.testing.assert_close(layer_states(model, pack(ROWS), 1), predicting)
    assert not torch.allclose(at_answers(model, ROWS, 1), predicting, atol=1e-2)


@pytest.mark.parametrize("name", ["llama", "mixtral", "mamba"])
def test_gradient_checkpointing_changes_no_gradient(make_family, name):
    model = make_family(name, **LAYERS).model.train()
    with packed_attention(model):  # also while layers run again
        expected = gradients(model, at_answers(model, ROWS, 1))
        model.activation_checkpointing_enable()
        assert model.is_gradient_checkpointing
        found = gradients(model, at_answers(model, ROWS, 1))
    assert found.keys() == expected.keys()
    for one, gradient in expected.items():
        torch.testing.assert_close(found[one], gradient, msg=one)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_adapters_have_gradients_up_to_the_layer(make_family, name):
    made = make_family(name, **FAMILIES[name])
    lora = LoraParameters(rank=2, dropout=0.0)
    model = with_adapter(made, lora).model.eval()
    with torch.no_grad():
        for parameter, weight in model.named_parameters():
            if "lora_B" in parameter:
                weight.normal_(std=0.1)
    expected, states = (f(model, ROWS, 1) for f in (plain, at_answers))
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)
    expected, found = (gradients(model, one) for one in (expected, states))
    assert found.keys() == expected.keys()
    assert all("lora_" in one and ".2." not in one for one in found)
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-3, atol=1e-3)


def test_the_last_layer_s_states_come_before_the_norm(make_family):
    model = make_family("llama", **LAYERS).model
    last = at_answers(model, ROWS, 2)
    normed = plain(model, ROWS, 2)
    assert not torch.allclose(last, normed, atol=1e-2)
    torch.testing.assert_close(model.model.norm(last), normed, rtol=1e-4, atol=1e-4)


def test_layers_are_there_again_after_an_error(make_family):
    model = make_family("llama", **LAYERS).model
    with pytest.raises(KeyError), packed_attention(model):
        layer_states(model, {}, 1)
    assert len(model.model.layers) == 3
    assert not model.model.layers[1]._forward_hooks


@pytest.mark.parametrize(
    ("n_layers", "expected"), [(1, 0), (4, 0), (5, 1), (16, 3), (24, 5), (32, 7), (80, 17)]
)
def test_the_layer_is_the_published_one_or_as_high(tiny_llama, n_layers, expected):
    assert layer_number(tiny_llama(["a"], layers=n_layers).model, None) == expected


def test_layer_that_does_not_exist_is_refused(make_family):
    model = make_family("llama", **LAYERS).model
    assert layer_number(model, 2) == 2
    with pytest.raises(InputError) as caught:
        layer_number(model, 3)
    assert (
        str(caught.value) == "LlamaForCausalLM has no layer 3: its layers are numbered from 0 to 2"
    )


def test_model_whose_layers_stand_in_no_list_is_refused(make_family):
    model = make_family("llama", **LAYERS).model
    model.config.num_hidden_layers = 5
    with pytest.raises(InputError, match="LlamaForCausalLM has no list of 5 layers, whose hidden"):
        layer_number(model, 0)


def test_the_layers_behind_do_not_run(make_family):
    model, ran = make_family("llama", **LAYERS).model, []
    for number, layer in enumerate(model.model.layers):
        layer.register_forward_hook(lambda *passed, number=number: ran.append(number))
    with packed_attention(model):
        ran.clear()
        layer_states(model, pack(ROWS), 1)
    assert ran == [0, 1]


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "mamba"])
def test_layers_pass_through_a_function(make_family, family):
    model = make_family(family, **FAMILIES[family]).model
    text = torch.tensor([[5, 6, 7, 8]])
    seen = {}

    def look(number, states):
        seen[number] = states
        return torch.zeros_like(states) if number == 2 else states

    with torch.no_grad():
        before = model(input_ids=text).logits
        with hooked_layers(model, look):
            ended = model(input_ids=text).logits
        assert model(input_ids=text).logits.equal(before)  # the hooks are gone
    assert [states.shape[:2] for states in seen.values()] == [(1, 4)] * 3
    assert ended.equal(ended[:, :1].expand_as(ended))  # the same of nothing at every token
    assert not ended.equal(before)
