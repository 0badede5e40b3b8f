"""Packing: rows that lie behind each other never see each other, in any family of models."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from closer_look.models.packing import (
    PACKED,
    answer_logits,
    distinct_logits,
    pack,
    packed_attention,
)
from closer_look.models.tokens import Tokens, encode

ROWS = [
    Tokens([5, 6, 7, 8], [9, 0]),
    Tokens([5, 6, 7, 8], [4, 4, 0]),  # the same question, another answer
    Tokens([3, 4], [0]),
    Tokens([5], [6, 3, 8, 0]),  # begins as the first, and parts within the answer
    Tokens([3, 4], [0]),  # is there
]
# Some the same, some that begin alike, some that are hardly there.
a_text = st.text(min_size=1) | st.sampled_from(
    [" ", "a", "ab", "ab c", "\n", "ab c 👩‍👩‍👧", "\u200b"]
)
some_texts = st.lists(st.tuples(a_text | st.just(""), a_text), min_size=1, max_size=6)
many_texts = settings(deadline=None, max_examples=60)

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 3},
    "qwen2": {},
    "qwen3": {},
    "phi3": {"num_key_value_heads": 2},
    "olmo2": {},
    "gemma3_text": {"sliding_window": 3},
    "gpt_neox": {},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16},
}
ONE_BY_ONE = {
    "gemma2": {},  # attention of its own, with capped scores
    "mamba": {"state_size": 4},  # a state instead of attention
    "lfm2": {"layer_types": ["conv", "full_attention"]},  # a convolution beside attention
}


def random_model(family, options):
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**SIZES | options))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.5)
    return model.eval()


def alone(model, row):
    """Logits that predict the answer of a row which goes through the model by itself."""
    logits = model(torch.tensor([row.prompt + row.answer])).logits[0]
    return logits[len(row.prompt) - 1 : -1]


def test_what_rows_begin_with_in_common_is_there_once():
    batch = pack(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 4, 4, 3, 4, 3, 8]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 4, 5, 0, 1, 2, 3]]
    assert batch["own_lengths"] == [5, 2, 2, 2, 0]
    assert batch["path_lengths"] == [5, 6, 2, 4, 2]


def test_labels_are_the_answers_predicted_from_the_token_before():
    batch = pack(ROWS)
    assert batch["labels"].tolist() == [9, 0, 4, 4, 0, 0, 6, 3, 8, 0, 0]
    assert batch["answer_lengths"] == [2, 3, 1, 4, 1]
    assert batch["predictors"].tolist() == [3, 4, 3, 5, 6, 8, 0, 1, 9, 10, 8]


@many_texts
@given(texts=some_texts)
def test_labels_are_the_answer_and_its_end_whatever_the_text(language_model, texts):
    tokenizer = language_model.tokenizer
    batch = pack(encode(tokenizer, *zip(*texts, strict=True)))
    labels = batch["labels"].split(batch["answer_lengths"])
    for of_row, (_, answer) in zip(labels, texts, strict=True):
        assert of_row[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(of_row[:-1]) == answer


@many_texts
@given(texts=some_texts)
def test_each_row_is_found_again_and_a_label_stands_behind_its_predictor(language_model, texts):
    rows = encode(language_model.tokenizer, *zip(*texts, strict=True))
    batch = pack(rows)
    paths = batch["paths"].split(batch["path_lengths"])
    predictors = batch["predictors"].split(batch["answer_lengths"])
    for row, path, of_row in zip(rows, paths, predictors, strict=True):
        assert batch["input_ids"][0, path].tolist() == row.prompt + row.answer[:-1]
        assert batch["position_ids"][0, path].tolist() == list(range(len(row) - 1))
        assert of_row.tolist() == path[len(row.prompt) - 1 :].tolist()
    assert batch["input_ids"].shape[1] == sum(batch["own_lengths"])


@many_texts
@given(texts=some_texts)
def test_each_token_is_found_among_the_groups_in_which_rows_attend(language_model, texts):
    batch = pack(encode(language_model.tokenizer, *zip(*texts, strict=True)))
    (ids,) = batch["input_ids"]
    among_groups = torch.cat([ids[own].flatten() for own, *_ in batch["groups"]])
    assert torch.equal(among_groups[batch["slots"]], ids)


@many_texts
@given(texts=some_texts)
def test_padding_less_than_doubles_a_row(language_model, texts):
    batch = pack(encode(language_model.tokenizer, *zip(*texts, strict=True)))
    for side, lengths in enumerate((batch["own_lengths"], batch["path_lengths"])):
        assert sum(group[side].numel() for group in batch["groups"]) < 2 * sum(lengths)


@many_texts
@given(texts=some_texts)
def test_no_label_is_predicted_from_within_a_prompt(language_model, texts):
    rows = encode(language_model.tokenizer, *zip(*texts, strict=True))
    batch = pack(rows)
    assert len(batch["labels"]) == len(batch["predictors"]) == sum(batch["answer_lengths"])
    predictors = batch["predictors"].split(batch["answer_lengths"])
    depths = batch["position_ids"][0]
    for row, of_row in zip(rows, predictors, strict=True):
        last = len(row.prompt) - 1
        assert depths[of_row].tolist() == list(range(last, last + len(row.answer)))


def test_end_of_sequence_keeps_its_label_though_it_is_the_padding_token(language_model):
    tokenizer = language_model.tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    labels = pack(encode(tokenizer, ["a", "b"], ["short", "a longer one"]))["labels"]
    assert (labels == tokenizer.eos_token_id).sum() == 2


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES | ONE_BY_ONE)
def test_logits_are_those_of_each_row_by_itself(family):
    model = random_model(family, (FAMILIES | ONE_BY_ONE)[family])
    expected = torch.cat([alone(model, row) for row in ROWS])
    with packed_attention(model):
        logits = answer_logits(model, pack(ROWS))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_no_logits_are_computed_at_prompts(family):
    model = random_model(family, (FAMILIES | ONE_BY_ONE)[family])
    computed = []
    with packed_attention(model):
        head = model.get_output_embeddings()
        head.register_forward_hook(lambda module, inputs, output: computed.append(output.shape[1]))
        n_answer_tokens = len(answer_logits(model, pack(ROWS)))
    assert sum(computed) == n_answer_tokens


@torch.inference_mode()
@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_a_token_that_rows_share_has_its_logits_once(family):
    model = random_model(family, (FAMILIES | ONE_BY_ONE)[family])
    with packed_attention(model):
        logits, place = distinct_logits(model, pack(ROWS))
        torch.testing.assert_close(logits[place], answer_logits(model, pack(ROWS)))
    n_labels, n_distinct = 11, 9
    assert len(logits) == (n_distinct if family in FAMILIES else n_labels)


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES | ONE_BY_ONE)
def test_all_rows_take_one_forward_pass_where_the_model_lets_them(family):
    model = random_model(family, (FAMILIES | ONE_BY_ONE)[family])
    calls = []
    with packed_attention(model):
        model.register_forward_pre_hook(lambda *_: calls.append(1))
        answer_logits(model, pack(ROWS))
    assert len(calls) == (1 if family in FAMILIES else len(ROWS))


def test_gradients_are_those_of_each_row_by_itself(language_model):
    def gradient(*batches, checkpointing=False):
        model = copy.deepcopy(language_model.model)
        if checkpointing:
            model.train()
            model.activation_checkpointing_enable()
        with packed_attention(model):
            for rows in batches:
                answer_logits(model, pack(rows)).square().sum().backward()
        return model.get_input_embeddings().weight.grad

    expected = gradient(*([row] for row in ROWS))
    torch.testing.assert_close(gradient(ROWS), expected, rtol=1e-4, atol=1e-4)
    again = gradient(ROWS, checkpointing=True)
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_model_is_left_as_it_was(language_model):
    model = language_model.model
    before = model(torch.tensor([[5, 6, 7]])).logits
    with pytest.raises(KeyError), packed_attention(model):
        assert model.config._attn_implementation == PACKED
        raise KeyError
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model(torch.tensor([[5, 6, 7]])).logits, before)


@torch.inference_mode()
def test_no_logit_is_computed_for_a_prompt(language_model):
    shapes = []
    model = language_model.model
    with packed_attention(model):
        hook = model.lm_head.register_forward_hook(
            lambda module, inputs, output: shapes.append(tuple(output.shape[:2]))
        )
        answer_logits(model, pack([Tokens(list(range(1, 90)), [7, 0])]))
    hook.remove()
    assert shapes == [(1, 2)]
