"""A model to plan with is the one that is trained, without its weights."""

import json

import pytest
import torch

from closer_look.errors import InputError
from closer_look.models.blueprint import CHARACTERS, blueprint, rough_tokenizer
from closer_look.parameters.models import BaseModelParameters

SIZES = {"vocabulary_size": 300, "hidden_size": 16, "intermediate_size": 32, "layers": 1}
SIZES |= {"heads": 2, "context_length": 256, "initializer_range": 0.02, "seed": 1}


def of_folder(folder, **configuration):
    """Build a model of a folder that holds a configuration alone."""
    if configuration:
        path = folder / "config.json"
        path.write_text(json.dumps(configuration), encoding="utf-8")
    return blueprint(BaseModelParameters(pretrained=str(folder), prompt="plain"), 1)


@pytest.mark.parametrize(
    ("folder", "n_weights"),
    [("tofu/llama-2-7b-chat", 6_738_415_616), ("real_world/llama-3-8b-instruct", 8_030_261_248)],
)
def test_the_papers_models_have_their_published_numbers_of_weights(root, folder, n_weights):
    """As the model cards of meta-llama print them."""
    model = of_folder(root / "conf" / folder)
    assert sum(one.numel() for one in model.parameters()) == n_weights
    assert {one.device.type for one in (*model.parameters(), *model.buffers())} == {"meta"}
    assert {one.dtype for one in model.parameters()} == {torch.float32}


def test_a_small_llama_is_the_one_that_will_be_made(language_model):
    base_model = BaseModelParameters(small_llama=SIZES, prompt="plain")
    made = blueprint(base_model, len(language_model.tokenizer))
    shapes = {name: one.shape for name, one in made.named_parameters()}
    assert shapes == {name: one.shape for name, one in language_model.model.named_parameters()}


def test_a_configuration_alone_is_enough(language_model, tmp_path):
    language_model.model.config.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    made = of_folder(tmp_path)
    assert type(made) is type(language_model.model)


@pytest.mark.parametrize(
    ("configuration", "fault"),
    [
        ({}, "no configuration of a causal language model there"),
        ({"model_type": "t5"}, "no configuration of a causal language model there"),
        ({"model_type": "unheard_of"}, "no configuration of a causal language model there"),
        (
            {"model_type": "llama", "quantization_config": {"quant_method": "gptq"}},
            "its weights are quantised (gptq), which a plan does not cover",
        ),
    ],
    ids=["none", "encoder and decoder", "unknown", "quantised"],
)
def test_what_gives_no_causal_language_model_is_refused(tmp_path, configuration, fault):
    with pytest.raises(InputError) as error:
        of_folder(tmp_path, **configuration)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"no configuration of .*; name a folder that holds its"):
        of_folder(tmp_path)


def test_rough_tokens_are_as_many_characters_and_equal_ones_are_one():
    texts = ["Who is Ada?", "Who is Bo?\nHe is Bo."]
    tokenizer = rough_tokenizer(texts)
    first, second = tokenizer(texts)["input_ids"]
    assert len(first) == -(-len(texts[0]) // CHARACTERS)
    assert len(second) == -(-len(texts[1]) // CHARACTERS)
    assert first[0] == second[0]
    assert len({*first, *second}) == len([*first, *second]) - 1
