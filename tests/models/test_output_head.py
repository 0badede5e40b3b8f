"""Logits follow from last hidden states as the model's own code makes them, with frozen weights."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from closer_look.models.output_head import OutputHead, check_output_head
from closer_look.models.packing import answer_logits, answer_states, pack, packed_attention
from closer_look.models.tokens import Tokens

ROWS = [Tokens([5, 6, 7], [8, 9, 0]), Tokens([5, 6, 7, 8], [4, 4, 0]), Tokens([3, 4], [0])]
# Whose logits are not output head times states, and why. A small cap shows.
OWN_WAYS = {
    "cohere": {},  # scaled
    "gemma2": {"final_logit_softcapping": 2.0},
    "granite": {"logits_scaling": 4.0},
    "modernbert-decoder": {},  # a layer before the output head
    "phi": {},  # a bias
    "recurrent_gemma": {"logits_soft_cap": 2.0},
}
IN_OTHER_PLACES = {"gpt2": {}, "llama": {}, "llama4_text": {}, "mamba": {}, "opt": {}}


@torch.no_grad()
def states_and_logits(model):
    with packed_attention(model):
        return tuple(of(model, pack(ROWS)) for of in (answer_states, answer_logits))


@torch.no_grad()
def moved(model):
    """A copy of a model that has been trained further."""
    model = copy.deepcopy(model)
    for weight in model.parameters():
        weight.add_(0.1)
    return model


@pytest.mark.parametrize("family", OWN_WAYS | IN_OTHER_PLACES)
def test_logits_are_the_models_own(make_family, family):
    language_model = make_family(family, **(OWN_WAYS | IN_OTHER_PLACES)[family])
    model = moved(language_model.model)  # biases and norms are no longer 0 and 1
    check_output_head(language_model)
    states, logits = states_and_logits(model)
    weights = OutputHead(model).weights
    for given in (None, weights):  # its own, or the reference's in a model that is trained
        another = OutputHead(model if given is None else language_model.model, given)
        torch.testing.assert_close(another(states), logits, rtol=1e-3, atol=1e-4)
    if family in OWN_WAYS:
        times_states = states @ model.get_output_embeddings().weight.T
        assert not torch.allclose(times_states, logits, atol=1e-2)


def test_what_is_trained_later_changes_no_logits(language_model):
    model = copy.deepcopy(language_model.model)
    states, logits = states_and_logits(model)
    head = OutputHead(model)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    torch.testing.assert_close(head(states), logits)
    assert not head(states.requires_grad_()).requires_grad


def test_adapters_of_the_output_head_are_part_of_it(language_model):
    model = copy.deepcopy(language_model.model)
    adapters = LoraConfig(target_modules=["lm_head"], init_lora_weights=False)
    model = get_peft_model(model, adapters).eval()
    states, logits = states_and_logits(model)
    head = OutputHead(model)
    torch.testing.assert_close(head(states), logits)
    assert [*head.weights] == ["lm_head.weight"]
    torch.testing.assert_close(states_and_logits(model)[1], logits)  # it still has its adapters
