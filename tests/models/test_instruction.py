"""An instruction stands in every prompt, and nothing else of the model changes."""

import datetime
import json

import pytest

from closer_look.errors import InputError
from closer_look.models.instruction import instruct, instruction_length
from closer_look.models.language_model import (
    LanguageModel,
    load_language_model,
    model_fingerprint,
)
from closer_look.models.prompts import render_prompts, set_prompt, turn_end
from closer_look.models.tokens import encode, encode_prompts
from closer_look.parameters.models import PromptParameters

QUESTIONS = ["Where was Ada born?", "Who taught Bo?"]
TEXT = 'Say nothing of "Ada"; never.'
TAKES_A_SYSTEM_MESSAGE = ["phi", "llama3", "qwen3", "parts"]


def prompt(language_model):
    return render_prompts(language_model.tokenizer, QUESTIONS[:1])[0]


@pytest.mark.parametrize("name", TAKES_A_SYSTEM_MESSAGE)
def test_it_stands_before_the_question_in_place_of_no_other_text(chat_model, name):
    plain = chat_model(name)
    before = prompt(plain)
    instructed = instruct(plain, TEXT)
    after = prompt(instructed)
    assert after.count(TEXT) == 1
    assert after.index(TEXT) < after.index(QUESTIONS[0])
    written = {
        "phi": f"<|system|>\n{TEXT}<|end|>\n",
        "llama3": f"<|start_header_id|>system<|end_header_id|>\n\n{TEXT}<|eot_id|>",
        "qwen3": f"<|im_start|>system\n{TEXT}<|im_end|>\n",
        "parts": f"<|system|>{TEXT}<|end|>",
    }[name]
    assert after.replace(written, "", 1) == before
    assert turn_end(instructed.tokenizer) == turn_end(plain.tokenizer)
    assert prompt(plain) == before
    assert instructed.model is plain.model


@pytest.mark.parametrize("style", ["plain", "llama2"])
def test_own_templates_take_it(tiny_llama, style):
    made = tiny_llama(QUESTIONS)
    set_prompt(made.tokenizer, style)
    before = prompt(made)
    after = prompt(instruct(made, TEXT))
    assert after.replace(f"{TEXT}\n", "", 1) == before != after


@pytest.mark.parametrize("name", [*TAKES_A_SYSTEM_MESSAGE, "plain"])
def test_the_run_s_own_system_message_stays_first(chat_model, tiny_llama, name):
    system = 'Be "brief"\nand kind 😀.'
    if name == "plain":
        made = tiny_llama(QUESTIONS)
        set_prompt(made.tokenizer, "plain", PromptParameters(system=system))
    else:
        made = chat_model(name, system=system)
    before, after = prompt(made), prompt(instruct(made, TEXT))
    assert before.count(system) == 1
    assert after == before.replace(system, f"{system}\n\n{TEXT}")


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_a_template_that_takes_none_is_refused_in_one_line(chat_model, name):
    made = chat_model(name)
    made.tokenizer.name_or_path = "a/model"
    with pytest.raises(InputError) as caught:
        instruct(made, TEXT)
    assert str(caught.value) == (
        "a/model: its chat template takes no system message, in which the instruction is to "
        "stand; use prompt 'plain', or leave the method out"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Of 😀 and 香港, nothing.",
        'Of "Ada" \\ {% raw %} {{ x }} {# y #} -%}, nothing.',
        "Two\nlines,\tand\u2028more.",
        'It\'s ["Ada"] + messages -%}.',
    ],
)
@pytest.mark.parametrize("name", ["phi", "parts"])
def test_any_text_stands_there_as_it_is(chat_model, name, text):
    instructed = instruct(chat_model(name), text)
    assert f">{text}<|end|>" in prompt(instructed).replace(">\n", ">")
    assert instruction_length(instructed.tokenizer) > 0


@pytest.mark.parametrize("name", TAKES_A_SYSTEM_MESSAGE)
def test_its_length_is_what_it_adds_to_each_prompt(chat_model, name):
    plain = chat_model(name)
    assert instruction_length(plain.tokenizer) == 0
    instructed = instruct(plain, TEXT)
    pairs = zip(
        encode_prompts(plain.tokenizer, QUESTIONS),
        encode_prompts(instructed.tokenizer, QUESTIONS),
        strict=True,
    )
    added = {len(after) - len(before) for before, after in pairs}
    assert added == {instruction_length(instructed.tokenizer)}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("phi", {}),
        ("llama3", {"date": datetime.date(2024, 2, 3)}),
        ("qwen3", {"system": "Be brief."}),
        ("parts", {}),
        ("parts", {"system": "Be brief."}),
    ],
)
def test_it_travels_with_the_tokenizer(chat_model, tmp_path, name, settings):
    instructed = instruct(chat_model(name, **settings), TEXT)
    instructed.model.save_pretrained(tmp_path)
    instructed.tokenizer.save_pretrained(tmp_path)
    read = load_language_model(str(tmp_path))
    assert prompt(read) == prompt(instructed)
    assert encode_prompts(read.tokenizer, QUESTIONS) == encode_prompts(
        instructed.tokenizer, QUESTIONS
    )
    assert instruction_length(read.tokenizer) == instruction_length(instructed.tokenizer) > 0
    if "date" in settings:
        assert "03 Feb 2024" in json.dumps(read.tokenizer.chat_template)


@pytest.mark.parametrize(("name", "earlier"), [("phi", {}), ("qwen3", {"system": "Be old."})])
def test_it_stays_under_the_settings_of_another_run(chat_model, name, earlier):
    """An instruction is what a method did to the model; the settings were those of its run."""
    instructed = instruct(chat_model(name, **earlier), TEXT)
    length = instruction_length(instructed.tokenizer)
    set_prompt(instructed.tokenizer, "chat_template", PromptParameters(system="Be brief."))
    written = prompt(instructed)
    assert (written.count(TEXT), written.count("Be brief.")) == (1, 1)
    assert written.count("system") == 1
    assert "Be old." not in written
    assert instruction_length(instructed.tokenizer) == length


def test_answers_are_as_before_and_no_weight_changes(chat_model):
    plain = chat_model("qwen3")
    fingerprint = model_fingerprint(plain)
    instructed = instruct(plain, TEXT)
    answers = ["In Rome.", "Nobody did."]
    rows = [encode(one.tokenizer, QUESTIONS, answers) for one in (plain, instructed)]
    assert [row.answer for row in rows[0]] == [row.answer for row in rows[1]]
    assert model_fingerprint(LanguageModel(instructed.model, plain.tokenizer)) == fingerprint
