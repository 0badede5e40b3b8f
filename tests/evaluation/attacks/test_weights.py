"""Weights come back bit for bit, those of a model with adapters too, and every matrix is found."""

import pytest
import torch

from closer_look.errors import InputError
from closer_look.evaluation.attacks import ATTACKS
from closer_look.evaluation.attacks.weights import ask_after, ask_rows, matrices, weights_restored
from closer_look.models.adapters import with_adapter
from closer_look.models.language_model import model_fingerprint
from closer_look.parameters.training import LoraParameters

SMALL = {
    "relearning": {"steps": [1], "shown": 2},
    "quantisation": {"formats": ["int8", "nf4"]},
    "pruning": {"shares": [0.1]},
    "noise": {"levels": [0.1]},
}


@pytest.fixture(scope="module")
def adapted(models, copied_model):
    """The model that knows the rows, with adapters that change its answers."""
    model = with_adapter(copied_model(models.knows), LoraParameters(dropout=0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=generator)
    return model


@pytest.mark.parametrize("kind", ["full", "adapters"])
@pytest.mark.parametrize("name", SMALL)
def test_a_model_is_given_back_as_it_was(models, adapted, rows, context, kind, name):
    model = models.knows if kind == "full" else adapted
    before, plain = model_fingerprint(model), ask_rows(model, rows[:4], context, "plain")
    first, second = (
        ATTACKS[name].function(model, rows[:4], context, **SMALL[name]) for _ in range(2)
    )
    assert model_fingerprint(model) == before
    assert not any(weight.grad is not None for weight in model.model.parameters())
    assert not model.model.training
    assert ask_rows(model, rows[:4], context, "plain").equals(plain)  # adapters are on again
    assert first.equals(second)  # seeded


def test_the_weights_come_back_after_an_error(models, copied_model):
    model = copied_model(models.knows)
    before = model_fingerprint(model)
    with pytest.raises(ZeroDivisionError), weights_restored(model.model):
        torch.nn.init.zeros_(model.model.model.layers[0].mlp.up_proj.weight)
        raise ZeroDivisionError
    assert model_fingerprint(model) == before


def test_adapters_are_merged_before_the_weights_change(adapted, rows, context):
    seen = []

    def look(weight):
        seen.append(weight.clone())
        return weight

    answers = ask_after({"unchanged": look}, adapted, rows, context)
    plain = ask_rows(adapted, rows, context, "unchanged")
    assert answers.equals(plain)
    merged = adapted.model.merge_and_unload()
    for weight, expected in zip(seen, matrices(merged), strict=True):
        torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llama", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("gpt2", {"c_attn", "c_proj", "c_fc"}),  # transposed, and positions are learned
        ("mixtral", {"q_proj", "k_proj", "v_proj", "o_proj", "gate", "experts"}),
    ],
)
def test_matrices_are_those_of_the_layers(make_family, family, expected):
    model = make_family(family).model
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {names[id(weight)].removesuffix(".weight") for weight in matrices(model)}
    ends = {name.removesuffix(".gate_up_proj").removesuffix(".down_proj") for name in found}
    ends = found if family == "llama" else ends
    assert {name.rsplit(".", 1)[-1] for name in ends} == expected


def test_quantised_weights_are_refused(models, copied_model, rows, context):
    model = copied_model(models.knows)
    model.model.is_quantized = True
    with pytest.raises(InputError, match=r"its weights are quantised.*experiment\.stress"):
        ask_after({"": lambda weight: weight}, model, rows, context)
