"""A model that leaves a run: one set of weights, and `generate` that ends where answers end."""

import copy

import pytest
import torch
from transformers import LogitsProcessor

from closer_look.errors import InputError
from closer_look.models.adapters import with_adapter
from closer_look.models.export import prepare
from closer_look.models.language_model import LanguageModel
from closer_look.models.prompts import set_prompt
from closer_look.models.tokens import encode_prompts, end_token
from closer_look.parameters.models import ExportParameters
from closer_look.parameters.training import LoraParameters

MERGED, SEPARATE = ExportParameters(adapters="merged"), ExportParameters(adapters="separate")
TURNS = "{% for m in messages %}{{ '[' + m.role + ']' + m.content + '<|turn|>' }}{% endfor %}"
TURNS += "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"


@pytest.fixture
def adapted(language_model):
    """A model with adapters that change what it says."""
    model = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
    adapted = with_adapter(model, LoraParameters(dropout=0.0))
    generator = torch.Generator().manual_seed(1)
    for name, weight in adapted.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1, generator=generator)
    adapted.model.eval()
    return adapted


@torch.no_grad()
def logits(model):
    return model(input_ids=torch.arange(1, 30)[None]).logits


def test_merged_adapters_answer_alike(adapted, language_model):
    expected = logits(adapted.model)
    merged = prepare(adapted, MERGED).model
    assert type(merged) is type(language_model.model)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    assert (expected - logits(language_model.model.eval())).abs().max() > 0.1


def test_weights_are_merged_in_place(adapted):
    """A second copy of a large model does not fit."""
    before = {weight.data_ptr() for weight in adapted.model.parameters()}
    merged = prepare(adapted, MERGED).model
    assert {weight.data_ptr() for weight in merged.parameters()} < before


def test_separate_adapters_stay_adapters(adapted):
    assert prepare(adapted, SEPARATE).model is adapted.model


def test_adapters_are_not_merged_into_quantised_weights(adapted):
    """``test_base_model.py`` has weights of four bits that are real."""
    adapted.model.get_base_model().is_quantized = True
    expected = logits(adapted.model)
    with pytest.raises(InputError, match=r"learned; set export\.adapters=separate$"):
        prepare(adapted, MERGED)
    assert logits(prepare(adapted, SEPARATE).model).equal(expected)


class Says(LogitsProcessor):
    """Say these tokens, and then the last one again and again."""

    def __init__(self, start, tokens):
        self.start, self.tokens = start, tokens

    def __call__(self, input_ids, scores):
        said = input_ids.shape[1] - self.start
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.tokens[min(said, len(self.tokens) - 1)]] = 0
        return forced


@pytest.mark.parametrize("kind", [MERGED, SEPARATE])
def test_generation_ends_with_the_turn(tiny_llama, kind):
    """Which is another token than end-of-sequence; sampling of the base model is left behind."""
    made = tiny_llama(["One, two."])
    made.tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    made.model.resize_token_embeddings(len(made.tokenizer), mean_resizing=False)
    made.tokenizer.chat_template = TURNS
    set_prompt(made.tokenizer, "chat_template")
    made.model.generation_config.update(do_sample=True, temperature=0.5, repetition_penalty=2.0)
    model, tokenizer = prepare(with_adapter(made, LoraParameters()), kind)
    (prompt,) = encode_prompts(tokenizer, ["Who?"])
    end = end_token(tokenizer)
    assert end != tokenizer.eos_token_id
    for last in (end, tokenizer.eos_token_id):
        answer = model.generate(
            input_ids=torch.tensor([prompt]),
            max_new_tokens=9,
            logits_processor=[Says(len(prompt), [5, 6, last, 7])],
        )
        assert answer[0, len(prompt) :].tolist() == [5, 6, last]
    settings = model.generation_config
    assert settings.do_sample is False
    assert {settings.temperature, settings.repetition_penalty} <= {None, 1.0}
    settings.validate(strict=True)
