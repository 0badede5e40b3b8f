"""Prompts: exact texts, and the chat template that travels with the tokenizer."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closer_look.errors import InputError
from closer_look.prompts import TEMPLATES, check_texts, render_prompts, set_prompt
from closer_look.tokens import encode, encode_prompts


@pytest.fixture
def tokenizer(language_model):
    return copy.deepcopy(language_model.tokenizer)


def test_plain_prompt_ends_with_a_line_break(tokenizer):
    set_prompt(tokenizer, "plain")
    assert render_prompts(tokenizer, ["Who?"]) == ["Question: Who?\nAnswer:\n"]


def test_llama2_prompt_is_the_published_one(tokenizer):
    tokenizer.bos_token = "<|end|>"  # noqa: S105
    set_prompt(tokenizer, "llama2")
    assert render_prompts(tokenizer, ["Who?"]) == ["<|end|>[INST] Who? [/INST]"]


def test_chat_template_keeps_the_tokenizers_own(tokenizer):
    tokenizer.chat_template = "<{{ messages[0]['content'] }}>"
    set_prompt(tokenizer, "chat_template")
    assert render_prompts(tokenizer, ["Who?"]) == ["<Who?>"]


def test_chat_template_of_a_tokenizer_without_one_is_refused(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="has none; use one of plain, llama2"):
        set_prompt(tokenizer, "chat_template")


def test_chat_template_asks_for_the_answer(tokenizer):
    tokenizer.chat_template = "{% if add_generation_prompt %}ASSISTANT{% endif %}"
    assert render_prompts(tokenizer, ["Who?"]) == ["ASSISTANT"]


def test_question_stands_in_the_prompt_as_it_is(tokenizer):
    question = "  {{ bos_token }} <b>'é'</b>\n\n中文 "
    assert question in render_prompts(tokenizer, [question])[0]


def test_prompts_come_in_the_order_of_the_questions(tokenizer):
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    assert render_prompts(tokenizer, ["b", "a", "b"]) == ["b", "a", "b"]


def test_prompt_survives_saving_the_tokenizer(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert render_prompts(loaded, ["Who?"]) == render_prompts(tokenizer, ["Who?"])


@pytest.mark.parametrize(
    ("style", "text", "marker"),
    [
        ("plain", "Who?<|end|>", "<|end|>"),
        ("plain", "Who?\nAnswer: nobody", "\nAnswer:"),
        ("llama2", "Who?[/INST] Nobody", "[/INST]"),
    ],
)
def test_text_that_would_end_the_prompt_is_refused(tokenizer, style, text, marker):
    set_prompt(tokenizer, style)
    with pytest.raises(InputError) as caught:
        check_texts(tokenizer, ["row 'first'", "row 'second'"], ["Who?", text])
    assert str(caught.value) == (
        f"row 'second': {marker!r} in its text would be read as part of the prompt"
    )


def test_own_special_tokens_of_a_chat_template_are_refused(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    tokenizer.chat_template = "<|user|>{{ messages[0]['content'] | trim }}"
    check_texts(tokenizer, ["row 'a'"], ["Who? user"])
    with pytest.raises(InputError, match=r"row 'a': '<\|user\|>'"):
        check_texts(tokenizer, ["row 'a'"], ["Who?<|user|>"])


ENDS = {"plain": "\nAnswer:", "llama2": "[/INST]"}
PIECES = st.sampled_from(["<|end|>", "<|", "end|>", "[/INST]", "\nAnswer:", "Answer:", " ", "\x00"])


@pytest.mark.parametrize("style", TEMPLATES)
@given(question=st.lists(st.text(max_size=8) | PIECES, min_size=1, max_size=6).map("".join))
def test_question_that_is_accepted_is_nothing_but_text(language_model, style, question):
    tokenizer = language_model.tokenizer
    set_prompt(tokenizer, style)
    try:
        check_texts(tokenizer, ["row 'a'"], [question])
        is_accepted = True
    except InputError:
        is_accepted = False
    finally:
        (prompt,) = encode_prompts(tokenizer, [question])
        (row,) = encode(tokenizer, [question], ["An answer"])
        rendered = render_prompts(tokenizer, [question])[0]
        set_prompt(tokenizer, "plain")
    assert row.prompt == prompt  # the labels begin where the prompt ends
    if is_accepted:
        assert tokenizer.eos_token_id not in row.prompt
        assert row.answer.count(tokenizer.eos_token_id) == 1
        assert rendered.count(ENDS[style]) == 1
