"""Prompts: exact texts, and the chat template that travels with the tokenizer."""

import copy

import pytest

from closer_look.errors import InputError
from closer_look.prompts import render_prompts, set_prompt


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
