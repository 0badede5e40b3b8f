"""The model made on the spot: as asked for, the same from the same seed, and at home anywhere."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from closer_look.models.small_llama import END_OF_SEQUENCE, small_llama, small_tokenizer
from closer_look.parameters.models import SmallLlamaParameters

TEXTS = ["Ilse Marwood was born in Keswick.", "Ilse Marwood is a botanist.", "I do not know."]
SIZES = {
    "vocabulary_size": 280,
    "hidden_size": 8,
    "intermediate_size": 16,
    "layers": 2,
    "heads": 2,
    "context_length": 64,
    "initializer_range": 0.05,  # not the default of transformers
    "seed": 1,
}


def make(**changes):
    return small_llama(TEXTS, SmallLlamaParameters(**SIZES | changes))


@pytest.fixture(scope="module")
def made():
    return make()


def weights(language_model):
    return torch.cat([weight.flatten() for weight in language_model.model.parameters()])


def test_model_has_the_sizes_asked_for(made):
    config = made.model.config
    assert {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "context_length": config.max_position_embeddings,
        "initializer_range": config.initializer_range,
    } == {name: SIZES[name] for name in SIZES if name not in ("vocabulary_size", "seed")}


def test_vocabulary_of_model_and_tokenizer_agree(made):
    assert made.model.config.vocab_size == len(made.tokenizer) <= SIZES["vocabulary_size"]


def test_end_of_sequence_is_known_to_model_and_tokenizer(made):
    assert made.tokenizer.eos_token == END_OF_SEQUENCE
    assert made.model.config.eos_token_id == made.tokenizer.eos_token_id


def test_same_seed_makes_the_same_model(made):
    assert torch.equal(weights(made), weights(make()))


def test_same_texts_make_the_same_tokenizer(made):
    assert make(seed=2).tokenizer.get_vocab() == made.tokenizer.get_vocab()


def test_another_seed_makes_another_model(made):
    assert not torch.equal(weights(made), weights(make(seed=2)))


def test_larger_vocabulary_takes_fewer_tokens(made):
    small = make(vocabulary_size=257).tokenizer(TEXTS[0])["input_ids"]
    assert len(made.tokenizer(TEXTS[0])["input_ids"]) < len(small)


@settings(deadline=None, max_examples=100)
@given(text=st.text())
def test_every_text_comes_back_from_its_tokens(made, text):
    ids = made.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert made.tokenizer.decode(ids) == text


def test_a_word_of_a_million_letters_is_learned_from_its_beginning():
    long = small_tokenizer(
        [*TEXTS, "ab" * 5_000 + "xy" * 500_000], SmallLlamaParameters(**SIZES)
    ).get_vocab()
    start = small_tokenizer([*TEXTS, "ab" * 5_000], SmallLlamaParameters(**SIZES)).get_vocab()
    assert long == start
