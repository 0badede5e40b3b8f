"""Greedy answers: those of plain argmax decoding, whatever the batch."""

import copy
import itertools
from contextlib import contextmanager

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from closer_look.errors import InputError
from closer_look.inference import decoding
from closer_look.inference.decoding import _guess
from closer_look.inference.generation import generate
from closer_look.metrics import token_entropy
from closer_look.models.language_model import LanguageModel
from closer_look.models.tokens import encode_prompts
from closer_look.parameters.evaluation import GenerationParameters, ScoringParameters
from closer_look.pipelines.generation.nodes import generate_answers, score_answers

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


@pytest.fixture
def passes():
    """Shapes of what goes through a model."""

    @contextmanager
    def passes(model):
        shapes = []
        hook = model.register_forward_pre_hook(
            lambda _, args, inputs: shapes.append(tuple(inputs["input_ids"].shape)),
            with_kwargs=True,
        )
        yield shapes
        hook.remove()

    return passes


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


def test_answers_that_have_ended_leave_the_batch(ending, passes, monkeypatch):
    language_model, _ = ending
    monkeypatch.setattr(decoding, "POSITIONS", 1)  # a token of each answer a pass
    answers = generate(language_model, QUESTIONS, MAX_LENGTH, batch_size=4)
    with passes(language_model.model) as shapes:
        generate(language_model, QUESTIONS, MAX_LENGTH, batch_size=4)
    tokens = answers["n_tokens"] + (answers["stopped_by"] == "eos")
    rows = [rows for rows, _ in shapes[1:]]  # after what all prompts begin with
    assert rows == [(tokens > step).sum() for step in range(tokens.max())]


def test_what_all_prompts_begin_with_goes_through_the_model_once(language_model, prompts, passes):
    n_shared = next(
        n for n, tokens in enumerate(zip(*prompts, strict=False)) if set(tokens[1:]) != {tokens[0]}
    )
    with passes(language_model.model) as shapes:
        generate(language_model, QUESTIONS, MAX_LENGTH, batch_size=4)
    assert n_shared > 5
    assert shapes[:2] == [(1, n_shared), (4, max(map(len, prompts)) - n_shared)]


def test_a_pass_for_what_hardly_costs_anything_is_not_made(language_model, prompts, passes):
    with passes(language_model.model) as shapes:
        generate(language_model, QUESTIONS[:1], MAX_LENGTH, batch_size=4)
    assert shapes[0] == (1, len(prompts[0]))


def test_prompts_that_say_the_same_get_the_same_answer(language_model, plain):
    answers = generate(language_model, QUESTIONS[:1] * 20, MAX_LENGTH, batch_size=20)
    assert set(answers["generated"]) == {language_model.tokenizer.decode(plain[0]).strip()}


@pytest.fixture
def circling(language_model):
    """A model whose answers go round in circles of many lengths, after a while."""
    model = copy.deepcopy(language_model.model).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(0.6)
    return LanguageModel(model, language_model.tokenizer)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_answers_that_repeat_themselves_take_few_passes(circling, passes, batch_size):
    prompts = encode_prompts(circling.tokenizer, QUESTIONS)
    plain = [argmax_decoding(circling.model, prompt, 200) for prompt in prompts]
    with passes(circling.model) as shapes:
        answers = generate(circling, QUESTIONS, 200, batch_size)
    decode = circling.tokenizer.decode
    assert list(answers["generated"]) == [decode(ids).strip() for ids in plain]
    assert list(answers["n_tokens"]) == [len(ids) for ids in plain]
    batches = [plain[i : i + batch_size] for i in range(0, len(plain), batch_size)]
    assert len(shapes) < 0.6 * sum(len(max(batch, key=len)) for batch in batches)


def test_a_pass_with_guesses_has_no_more_positions_than_cost_little(circling, passes):
    with passes(circling.model) as shapes:
        generate(circling, QUESTIONS[:3], 200, 3)
    guessing = [(rows, width) for rows, width in shapes[1:] if width > 1]
    assert guessing
    assert all(rows * width <= decoding.POSITIONS for rows, width in guessing)


def test_what_stood_there_before_is_guessed_round_and_round():
    assert _guess([5, 1, 2, 3, 1, 2], 5) == [3, 1, 2, 3, 1]
    assert _guess([1, 2, 7, 1, 2, 8, 1, 2], 2) == [8, 1]  # what came last
    assert _guess([4, 4, 4], 3) == [4, 4, 4]
    assert _guess([1, 2, 3], 3) == _guess([1], 3) == []


def sliding_model(window):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "sliding_window": window}
    return MistralForCausalLM(MistralConfig(vocab_size=9, **sizes, **heads)).eval()


@pytest.mark.parametrize("window", [8, 32])
def test_what_prompts_share_stays_with_them_where_a_window_slides(window):
    """Padding behind it would fill it."""
    model = sliding_model(window)
    prompts = [[1, 2, 3, 4, 5, 6, 7, 8, 1, 3, *own] for own in ([2], [2, 5, 5, 7, 3, 8, 4, 6], [4])]
    answers = decoding.decode_together(model, prompts, [20] * 3, set())
    assert answers == [argmax_decoding(model, prompt, len(prompt) + 20) for prompt in prompts]


@pytest.mark.parametrize("window", [8, 32])
def test_nothing_is_guessed_where_a_window_slides(passes, window):
    """Wrong guesses would fill it."""
    model = sliding_model(window)
    prompt = [1, 2, 3, 4, 5]
    with passes(model) as shapes:
        (answer,) = decoding.decode_together(model, [prompt], [40], set())
    assert answer == argmax_decoding(model, prompt, 45)
    assert shapes == [(1, 5), *[(1, 1)] * 39]


def test_no_position_is_beyond_what_a_model_has():
    """Answers that have ended stay in the batch for a while; guesses go further than the last."""
    torch.manual_seed(0)
    positions = {"n_positions": 24, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, **positions))
    prompts = [[1], *([n] * 12 for n in (2, 3, 4, 5, 6))]
    room = [24 - len(prompt) for prompt in prompts]
    answers = decoding.decode_together(model.eval(), prompts, room, set())
    plain = [argmax_decoding(model, prompt, 24) for prompt in prompts]
    assert [ids[:n] for ids, n in zip(answers, room, strict=True)] == plain


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
    held_out = make_questions(("forget", 3, 2)).assign(split="holdout")
    scores = score_answers(language_model, table, ScoringParameters(batch_size=4), held_out)
    given = []
    monkeypatch.setattr(
        "closer_look.evaluation.measurement.generate",
        lambda *model, **options: given.append(options) or generate(*model, **options),
    )
    parameters = GenerationParameters(max_length=MAX_LENGTH, batch_size=4)
    answers = generate_answers(language_model, table, scores, parameters)
    assert given[0]["openings"] == [plain[0][:1], [], [], plain[3][:1]]
    expected = generate(language_model, QUESTIONS, MAX_LENGTH, 4)
    assert answers[list(expected)].equals(expected)
