"""From text to tensors: nothing but the answer has a label, nothing but real tokens counts."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closer_look.errors import InputError
from closer_look.models.prompts import render_prompts, set_prompt
from closer_look.models.tokens import (
    Tokens,
    check_lengths,
    encode,
    encode_prompts,
    pad_left,
    prompt_batch,
)

ROWS = [Tokens([5, 6, 7, 8], [9, 0]), Tokens([5], [6, 7, 8, 0]), Tokens([3, 4], [0])]


def test_pad_left_lets_sequences_end_together():
    assert pad_left([[1, 2, 3], [4]], 9).tolist() == [[1, 2, 3], [9, 9, 4]]


def test_prompt_batch_is_padded_on_the_left():
    batch = prompt_batch([[5, 6], [7, 8, 9]])
    assert batch["input_ids"].tolist() == [[0, 5, 6], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]


def test_positions_count_real_tokens_from_zero():
    batch = prompt_batch([[5, 6], [7, 8, 9, 10]])
    assert batch["position_ids"].tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


@given(
    prompts=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=5)
)
def test_nothing_but_the_prompts_counts_in_their_batch(prompts):
    batch = prompt_batch(prompts)
    for prompt, ids, mask, positions in zip(
        prompts, *(batch[n] for n in ("input_ids", "attention_mask", "position_ids")), strict=True
    ):
        n_padded = len(ids) - len(prompt)
        assert mask.tolist() == [0] * n_padded + [1] * len(prompt)
        assert (
            ids[n_padded:].tolist() == prompt
        )  # the last of which predicts the first answer token
        assert positions[n_padded:].tolist() == list(range(len(prompt)))


def test_length_of_a_row_is_that_of_prompt_and_answer():
    assert [len(row) for row in ROWS] == [6, 5, 3]


def test_row_read_as_an_answer_keeps_its_tokens_and_all_labels_but_the_first():
    assert Tokens([5, 6], [7, 0]).all_as_answer() == Tokens([5], [6, 7, 0])


def test_no_token_straddles_the_border_of_prompt_and_answer(language_model):
    tokenizer = copy.deepcopy(language_model.tokenizer)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    joined = tokenizer("born", add_special_tokens=False)["input_ids"]
    row = encode(tokenizer, ["bo"], ["rn"])[0]
    assert tokenizer.decode(row.prompt) == "bo"
    assert tokenizer.decode(row.answer[:-1]) == "rn"
    assert row.prompt + row.answer[:-1] != joined  # a token of "born" crosses the border


@pytest.fixture(scope="module")
def llama2():
    """A SentencePiece-like tokenizer, which puts a space before the first word of a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"])
    texts = ["[INST] Who was it? [/INST]", "The author was Ilse. (The author?)"]
    inner.train_from_iterator(texts * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    set_prompt(tokenizer, "llama2")
    return tokenizer


def test_llama2_sees_the_tokens_that_it_was_trained_on(llama2):
    """As published: one text, tokenised with its beginning and end of sequence."""
    text = "[INST] Who was it? [/INST]The author was Ilse."
    published = [llama2.bos_token_id, *llama2(text)["input_ids"], llama2.eos_token_id]
    (row,) = encode(llama2, ["Who was it?"], ["The author was Ilse."])
    assert row.prompt + row.answer == published
    assert "".join(llama2.convert_ids_to_tokens(row.answer[:-1])) == "The▁author▁was▁Ilse."
    assert encode_prompts(llama2, ["Who was it?"]) == [row.prompt]


def test_tokens_are_those_of_prompt_and_answer_where_none_straddles_the_border(language_model):
    tokenizer = language_model.tokenizer
    (row,) = encode(tokenizer, ["Who?"], ["Ilse Marwood"])
    whole = render_prompts(tokenizer, ["Who?"])[0] + "Ilse Marwood"
    assert row.prompt + row.answer[:-1] == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_prompts_have_no_special_tokens_beyond_the_template(language_model):
    tokenizer = language_model.tokenizer
    assert tokenizer.eos_token_id not in encode_prompts(tokenizer, ["Who?"])[0]


def test_rows_that_fill_the_context_are_accepted():
    assert check_lengths(ROWS, ["a", "b", "c"], context_length=6) is None


def test_first_row_longer_than_the_context_is_named():
    with pytest.raises(InputError, match=r"row 'b': question and answer take 5 tokens.*holds 4"):
        check_lengths(ROWS[1:], ["b", "c"], context_length=4)
