"""Greedy answers: those of plain argmax decoding, whatever the batch."""

import copy
import itertools

import pytest
import torch

from closer_look.errors import InputError
from closer_look.generation import generate
from closer_look.language_model import LanguageModel
from closer_look.metrics import token_entropy
from closer_look.parameters import GenerationParameters, ScoringParameters
from closer_look.pipelines.generation.nodes import generate_answers, score_answers
from closer_look.tokens import encode_prompts

QUESTIONS = ["Who?", "Where was she born?", "Q", "What does she do on rainy afternoons?"]
MAX_LENGTH = 64


def argmax_decoding(model, prompt, max_length, end=None):
    """Decode token by token, each time from the whole text so far."""
    ids = list(prompt)
    while len(ids) < max_length:
        with torch.inference_mode():
            token = model(torch.tensor([ids])).logits[0, -1].argmax().item()
        if token == end:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.fixture(scope="module")
def prompts(language_model):
    return encode_prompts(language_model.tokenizer, QUESTIONS)


@pytest.fixture(scope="module")
def plain(language_model, prompts):
    """Answer tokens by plain decoding; none of them is end-of-sequence."""
    model = language_model.model.eval()
    answers = [argmax_decoding(model, prompt, MAX_LENGTH) for prompt in prompts]
    assert language_model.tokenizer.eos_token_id not in itertools.chain(*answers)
    return answers


@pytest.fixture
def ending(language_model, plain):
    """The same model with a tokenizer whose end-of-sequence stands in its first answer."""
    first = plain[0]
    position = next(i for i in range(3, len(first)) if first[i] not in first[:i])
    tokenizer = copy.deepcopy(language_model.tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(first[position])
    return LanguageModel(language_model.model, tokenizer), position


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_answers_are_those_of_plain_decoding(language_model, plain, batch_size):
    answers = generate(language_model, QUESTIONS, MAX_LENGTH, batch_size)
    decode = language_model.tokenizer.decode
    assert list(answers["generated"]) == [decode(ids).strip() for ids in plain]


def test_prompt_and_answer_take_max_length_together(language_model, prompts):
    answers = generate(language_model, QUESTIONS, MAX_LENGTH, batch_size=4)
    assert list(answers["n_tokens"]) == [MAX_LENGTH - len(prompt) for prompt in prompts]


def test_an_answer_that_is_cut_is_stopped_by_length(language_model):
    answers = generate(language_model, QUESTIONS, MAX_LENGTH, batch_size=4)
    assert set(answers["stopped_by"]) == {"length"}


def test_an_answer_that_ends_is_stopped_by_eos(ending):
    language_model, _ = ending
    assert generate(language_model, QUESTIONS[:1], MAX_LENGTH, 1)["stopped_by"][0] == "eos"


def test_end_of_sequence_is_not_counted(ending):
    language_model, position = ending
    assert generate(language_model, QUESTIONS[:1], MAX_LENGTH, 1)["n_tokens"][0] == position


def test_end_of_sequence_as_the_last_token_allowed_is_seen(ending, prompts):
    language_model, position = ending
    answer = generate(language_model, QUESTIONS[:1], len(prompts[0]) + position + 1, 1).iloc[0]
    assert (answer["stopped_by"], answer["n_tokens"]) == ("eos", position)


def test_end_of_sequence_one_token_too_late_is_not_seen(ending, prompts):
    language_model, position = ending
    answer = generate(language_model, QUESTIONS[:1], len(prompts[0]) + position, 1).iloc[0]
    assert (answer["stopped_by"], answer["n_tokens"]) == ("length", position)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_answers_that_end_early_do_not_depend_on_the_batch(ending, prompts, batch_size):
    language_model, _ = ending
    answers = generate(language_model, QUESTIONS, MAX_LENGTH, batch_size)
    model, tokenizer = language_model
    end = tokenizer.eos_token_id
    plain = [argmax_decoding(model, prompt, MAX_LENGTH, end) for prompt in prompts]
    assert list(answers["n_tokens"]) == [len(ids) for ids in plain]


def test_answers_that_have_ended_leave_the_batch(ending):
    language_model, _ = ending
    answers = generate(language_model, QUESTIONS, MAX_LENGTH, batch_size=4)
    sizes = []
    hook = language_model.model.register_forward_pre_hook(
        lambda _, args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True
    )
    generate(language_model, QUESTIONS, MAX_LENGTH, batch_size=4)
    hook.remove()
    tokens = answers["n_tokens"] + (answers["stopped_by"] == "eos")
    assert sizes == [(tokens > step).sum() for step in range(tokens.max())]


def test_token_entropy_is_that_of_the_answers_tokens(language_model, plain):
    answers = generate(language_model, QUESTIONS, MAX_LENGTH, batch_size=4)
    assert list(answers["token_entropy"]) == [token_entropy(ids) for ids in plain]


def test_answers_come_in_the_order_of_the_questions(language_model):
    forwards = generate(language_model, QUESTIONS, 50, batch_size=4)["generated"]
    backwards = generate(language_model, QUESTIONS[::-1], 50, batch_size=4)["generated"]
    assert list(backwards) == list(forwards)[::-1]


@pytest.fixture
def opinionated(language_model):
    """A model that comes with settings of its own, as chat models do."""
    own = language_model.model.generation_config
    bent = copy.deepcopy(own)
    bent.repetition_penalty = 5.0
    bent.max_new_tokens = 3
    language_model.model.generation_config = bent
    yield language_model
    language_model.model.generation_config = own


def test_settings_that_come_with_the_model_do_not_bend_the_answers(opinionated, plain):
    answers = generate(opinionated, QUESTIONS, MAX_LENGTH, batch_size=4)
    decode = opinionated.tokenizer.decode
    assert list(answers["generated"]) == [decode(ids).strip() for ids in plain]


@pytest.mark.parametrize("as_list", [True, False])
def test_tokens_that_end_a_turn_of_the_model_end_an_answer(opinionated, plain, as_list):
    """Chat models may have another end of turn than the tokenizer's end of sequence."""
    end = plain[0][4]
    position = plain[0].index(end)
    opinionated.model.generation_config.eos_token_id = [end] if as_list else end
    answer = generate(opinionated, QUESTIONS[:1], MAX_LENGTH, 1).iloc[0]
    assert (answer["stopped_by"], answer["n_tokens"]) == ("eos", position)


def test_settings_that_come_with_the_model_stay_with_it(opinionated):
    generate(opinionated, QUESTIONS, MAX_LENGTH, batch_size=4)
    assert opinionated.model.generation_config.repetition_penalty == 5.0


def test_model_answers_in_evaluation_mode(language_model):
    language_model.model.train()
    generate(language_model, ["Who?"], MAX_LENGTH, batch_size=1)
    assert not language_model.model.training


def test_prompt_that_leaves_no_room_is_refused(language_model, prompts):
    with pytest.raises(InputError, match=r"generation.max_length: \d+ leaves no room .*'Who\?'"):
        generate(language_model, ["Who?"], len(prompts[0]), batch_size=1)


def test_model_with_adapters_answers_as_by_plain_decoding(language_model, prompts):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(copy.deepcopy(language_model.model), config).eval()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    answers = generate(LanguageModel(adapted, language_model.tokenizer), QUESTIONS, MAX_LENGTH, 4)
    decode = language_model.tokenizer.decode
    plain = [argmax_decoding(adapted, prompt, MAX_LENGTH) for prompt in prompts]
    assert list(answers["generated"]) == [decode(ids).strip() for ids in plain]


@pytest.mark.parametrize("lengths", [(0, 1, 5, 9), (9, 0, 0, 0), (3, 3, 3, 3)])
def test_openings_change_no_answer(language_model, plain, lengths):
    openings = [ids[:n] for ids, n in zip(plain, lengths, strict=True)]
    answers = generate(language_model, QUESTIONS, MAX_LENGTH, 4, openings)
    assert answers.equals(generate(language_model, QUESTIONS, MAX_LENGTH, 4))


@pytest.mark.parametrize("end", ["within", "at the end"])
def test_an_opening_with_an_end_is_the_answer(ending, plain, end):
    language_model, position = ending
    opening = plain[0][: position + (3 if end == "within" else 1)]
    answers = generate(language_model, QUESTIONS[:1], MAX_LENGTH, 4, [opening])
    assert answers.equals(generate(language_model, QUESTIONS[:1], MAX_LENGTH, 4))


def test_an_opening_longer_than_the_room_is_cut(language_model, plain, prompts):
    room = 5
    max_length = len(prompts[0]) + room
    answers = generate(language_model, QUESTIONS[:1], max_length, 1, [plain[0][: room + 2]])
    assert answers.equals(generate(language_model, QUESTIONS[:1], max_length, 1))


def test_openings_are_not_decoded_again(language_model, plain, prompts):
    sizes = []
    hook = language_model.model.register_forward_pre_hook(
        lambda _, args, inputs: sizes.append(inputs["input_ids"].shape), with_kwargs=True
    )
    generate(language_model, QUESTIONS, MAX_LENGTH, 4, [plain[0], *([[]] * 3)])
    hook.remove()
    assert {n_rows for n_rows, _ in sizes} == {1, 2, 3}
    assert len(sizes) == MAX_LENGTH - min(len(prompt) for prompt in prompts[1:])


def test_what_scores_say_of_the_gold_answer_is_not_decoded_again(
    language_model, plain, make_questions, monkeypatch
):
    """Two of the gold answers begin as the model would."""
    table = make_questions(("forget", 1, 2), ("retain", 0, 2))
    table["question"] = QUESTIONS
    first, *_, last = (language_model.tokenizer.decode(ids[:1]) for ids in plain)
    table["gold_answer"] = [first, "No", "No", last]
    scores = score_answers(language_model, table, ScoringParameters(batch_size=4))
    given = []
    monkeypatch.setattr(
        "closer_look.generation.generate",
        lambda *arguments: given.append(arguments) or generate(*arguments),
    )
    parameters = GenerationParameters(max_length=MAX_LENGTH, batch_size=4)
    answers = generate_answers(language_model, table, scores, parameters)
    *_, openings = given[0]
    assert openings == [plain[0][:1], [], [], plain[3][:1]]
    expected = generate(language_model, QUESTIONS, MAX_LENGTH, 4)
    assert answers[list(expected)].equals(expected)
