"""Prompts and answers as templates of the shapes of published chat models write them."""

import datetime
import json

import pytest
import torch

from closer_look.errors import InputError
from closer_look.inference.generation import generate
from closer_look.inference.scoring import score
from closer_look.models import prompts
from closer_look.models.prompts import render_prompts, set_prompt, turn_end
from closer_look.models.tokens import encode
from closer_look.parameters.models import PromptParameters

ENDS = {
    "gemma": "<end_of_turn>",
    "phi": "<|end|>",
    "llama3": "<|eot_id|>",
    "qwen3": "<|im_end|>",
    "mistral": "<|eos|>",
    "parts": "<|end|>",
    "r1": "<|end|>",
}
QUESTIONS = ["Where was Ada born?", "Who taught Bo?"]
ANSWERS = ["In Rome.", "Nobody did."]


@pytest.fixture(params=ENDS)
def name(request):
    return request.param


def test_a_row_is_the_conversation_up_to_the_end_of_the_turn(chat_model, name):
    tokenizer = chat_model(name).tokenizer
    assert turn_end(tokenizer) == ENDS[name]
    (row,) = encode(tokenizer, QUESTIONS[:1], ANSWERS[:1])
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    messages.append({"role": "assistant", "content": ANSWERS[0]})
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    text = tokenizer.decode(row.prompt + row.answer)
    assert whole.startswith(text)
    assert text.endswith(ANSWERS[0] + ENDS[name])
    assert tokenizer.decode(row.answer).strip() == ANSWERS[0] + ENDS[name]


def test_a_model_that_knows_its_answers_scores_and_says_them(chat_model, name):
    """It is taught the whole conversation as the template writes it, by no code of the project."""
    language_model = chat_model(name)
    model, tokenizer = language_model
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": q}, {"role": "assistant", "content": a}], tokenize=False
        )
        for q, a in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    batches = [
        torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]]) for text in texts
    ]
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-2)
    model.train()
    for _ in range(150):
        loss = sum(model(input_ids=ids, labels=ids).loss for ids in batches)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scores = score(language_model, QUESTIONS, ANSWERS, batch_size=2)
    assert ((-scores["nll"] / scores["n_tokens"]).map(torch.tensor).map(torch.exp) > 0.98).all()
    answers = generate(language_model, QUESTIONS, max_length=120, batch_size=2)
    assert answers["generated"].tolist() == ANSWERS
    assert set(answers["stopped_by"]) == {"eos"}


def test_no_answer_begins_with_its_reasoning(chat_model):
    (prompt,) = render_prompts(chat_model("qwen3").tokenizer, QUESTIONS[:1])
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_template_that_asks_with_another_prompt_is_told(chat_model, name, caplog):
    prompts.warn_once.cache_clear()
    tokenizer = chat_model(name).tokenizer
    set_prompt(tokenizer, "chat_template", PromptParameters())
    told = [one for one in caplog.messages if "to ask for one" in one]
    assert len(told) == (name == "r1")  # once
    ends = (
        r"'<|Assistant|>' before a given answer, and with '<|Assistant|><think>\n' to ask for one"
    )
    assert all(ends in one for one in told)


@pytest.mark.parametrize(
    ("name", "printed"), [("llama3", "03 Feb 2024"), ("mistral", "2024-02-03")]
)
def test_a_date_is_that_of_the_parameters_on_any_day(chat_model, name, printed):
    (prompt,) = render_prompts(
        chat_model(name, date=datetime.date(2024, 2, 3)).tokenizer, QUESTIONS[:1]
    )
    assert printed in prompt
    (default,) = render_prompts(chat_model(name).tokenizer, QUESTIONS[:1])
    assert "2026" in default


def test_template_arguments_are_given(chat_model):
    tokenizer = chat_model("llama3", template_arguments={"date_string": "some day"}).tokenizer
    assert "Today Date: some day\n" in render_prompts(tokenizer, QUESTIONS[:1])[0]


@pytest.mark.parametrize("name", ["phi", "qwen3", "parts"])
def test_a_system_message_comes_first(chat_model, name):
    tokenizer = chat_model(name, system='Be "brief".').tokenizer
    (prompt,) = render_prompts(tokenizer, QUESTIONS[:1])
    assert prompt.index('Be "brief".') < prompt.index(QUESTIONS[0])


def test_a_template_without_a_system_role_says_so(chat_model):
    with pytest.raises(InputError, match="System role not supported"):
        chat_model("gemma", system="Be brief.")


@pytest.mark.parametrize("style", ["plain", "llama2"])
def test_own_templates_take_a_system_message(tiny_llama, style):
    tokenizer = tiny_llama(QUESTIONS).tokenizer
    set_prompt(tokenizer, style, PromptParameters(system="Be brief."))
    assert "Be brief.\n" in render_prompts(tokenizer, QUESTIONS[:1])[0]


def test_a_template_without_the_question_is_refused(tiny_llama):
    tokenizer = tiny_llama(QUESTIONS).tokenizer
    tokenizer.chat_template = "{{ bos_token }}Say something."
    with pytest.raises(InputError, match="makes a prompt without the question; use one of plain"):
        set_prompt(tokenizer, "chat_template")


def test_settings_travel_with_the_tokenizer(chat_model, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = chat_model("llama3", date=datetime.date(2024, 2, 3)).tokenizer
    tokenizer.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    set_prompt(read, "chat_template")
    assert render_prompts(read, QUESTIONS) == render_prompts(tokenizer, QUESTIONS)
    assert "03 Feb 2024" in json.dumps(read.chat_template)


@pytest.mark.parametrize("name", ["llama3", "parts"])
def test_settings_of_an_earlier_run_give_way(chat_model, name):
    """A model that a run has written may be where another run starts."""
    earlier = {"system": "Be old.", "date": datetime.date(2024, 2, 3)}
    new = {"system": "Be new.", "date": datetime.date(2025, 4, 5)}
    tokenizer = chat_model(name, **earlier, template_arguments={"tone": "old"}).tokenizer
    set_prompt(tokenizer, "chat_template", PromptParameters(**new))
    assert tokenizer.chat_template == chat_model(name, **new).tokenizer.chat_template


def test_settings_take_a_system_message_of_the_conversation_in(chat_model):
    """Most templates write the first one only, or fail on a second."""
    tokenizer = chat_model("phi", system="Be brief.").tokenizer
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text.startswith("<|system|>\nBe brief.\n\nBe kind.<|end|>\n<|user|>\nWho?<|end|>")
