"""The lens reads behind every layer, in any family, what the model would say if it ended there."""

import copy

import pytest
import torch

from closer_look.evaluation.attacks.facts import find_facts
from closer_look.evaluation.attacks.logit_lens import _logits_of_layers, logit_lens
from closer_look.models.adapters import with_adapter
from closer_look.models.instruction import instruct
from closer_look.parameters.training import LoraParameters


@pytest.fixture(scope="module")
def suppresses(models, copied_model):
    """The model that knows, with a third layer behind it that ruins every answer."""
    model = copied_model(models.knows)
    added = copy.deepcopy(model.model.model.layers[-1])
    added.self_attn.layer_idx = 2
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        added.mlp.down_proj.weight.normal_(std=5, generator=generator)
    model.model.model.layers.append(added)
    model.model.config.num_hidden_layers = 3
    return model


def test_it_finds_what_the_last_layer_suppresses(
    models, suppresses, rows, context, asked_plainly, share_recovered
):
    assert asked_plainly(suppresses, rows, context) == 0
    found = share_recovered(logit_lens(suppresses, rows, context))
    assert list(found) == ["layer 1 of 3", "layer 2 of 3", "layer 3 of 3"]
    assert found["layer 2 of 3"] > 0.9
    assert found["layer 3 of 3"] < 0.2


def test_it_catches_who_knows_and_clears_who_never_saw(models, rows, context, share_recovered):
    assert share_recovered(logit_lens(models.knows, rows, context))["layer 2 of 2"] > 0.9
    assert max(share_recovered(logit_lens(models.never_saw, rows, context)).values()) < 0.2


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mixtral", "opt", "gpt_neox"])
def test_the_last_layer_says_what_the_model_says(make_family, rows, family):
    model = make_family(family)
    fact = find_facts(model.tokenizer, rows[:1], rows)[0]
    with torch.no_grad():
        found = _logits_of_layers(model.model, fact)
        expected = model.model(input_ids=torch.tensor([fact.text])).logits[0, -len(fact.labels)]
    assert len(found) == 2
    torch.testing.assert_close(found[-1], expected, rtol=1e-4, atol=1e-4)


def test_adapters_and_instructions_are_read_too(models, copied_model, rows, context):
    plain = logit_lens(models.knows, rows, context)
    adapted = with_adapter(copied_model(models.knows), LoraParameters())  # not trained yet
    assert logit_lens(adapted, rows, context).equals(plain)
    instructed = instruct(models.knows, "Say nothing of Ilse Marwood.")
    assert len(logit_lens(instructed, rows, context)) == len(plain)
