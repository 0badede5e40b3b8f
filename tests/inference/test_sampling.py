"""Sampling: answers from the whole distribution, as the seed draws them."""

from collections import Counter

import pytest
import torch

from closer_look.inference.generation import generate
from closer_look.inference.sampling import sample, sample_each
from closer_look.models.prompts import set_prompt
from closer_look.models.tokens import encode_prompts


@pytest.fixture
def by_hand(tiny_llama, monkeypatch):
    """A model that says "a" with probability 1/2, "b" with 3/8, and ends with 1/8, whatever stands
    before; nothing else."""
    made = tiny_llama(["a b", "b a"])
    tokenizer = made.tokenizer
    set_prompt(tokenizer, "plain")
    a, b = (tokenizer.encode(text, add_special_tokens=False)[0] for text in "ab")
    logits = torch.full((made.model.config.vocab_size,), -torch.inf)
    ids = torch.tensor([a, b, tokenizer.eos_token_id])
    logits[ids] = torch.tensor([1 / 2, 3 / 8, 1 / 8]).log()
    forward = type(made.model).forward

    def fixed(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.logits = logits.expand(output.logits.shape).clone()
        return output

    monkeypatch.setattr(type(made.model), "forward", fixed)
    return made


def drawn(language_model, n, n_tokens=1, temperature=1.0, seed=1):
    prompt = [5, 6, 7]
    options = {"max_length": len(prompt) + n_tokens, "temperature": temperature, "seed": seed}
    return sample(language_model, prompt, n, **options)


def shares(texts):
    return {text: count / len(texts) for text, count in Counter(texts).items()}


def test_answers_have_the_model_s_probabilities(by_hand):
    found = shares(drawn(by_hand, 4000))
    # The standard deviation of a share of 4000 is below 0.008.
    assert found == pytest.approx({"a": 1 / 2, "b": 3 / 8, "": 1 / 8}, abs=0.03)


def test_temperature_divides_the_logits(by_hand):
    """At 2, the square roots of 4 : 3 : 1, which are 2 : 1.732 : 1 of 4.732."""
    found = shares(drawn(by_hand, 4000, temperature=2.0))
    expected = {"a": 2 / 4.732, "b": 1.732 / 4.732, "": 1 / 4.732}
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    "own", [{"top_p": 0.6}, {"top_k": 1}, {"temperature": 0.01}, {"repetition_penalty": 1e9}]
)
def test_settings_that_a_model_recommends_change_nothing(by_hand, own):
    expected = drawn(by_hand, 20, n_tokens=3)
    assert len(set(expected)) > 4
    settings = by_hand.model.generation_config
    settings.update(do_sample=True, **own)
    assert drawn(by_hand, 20, n_tokens=3) == expected
    assert by_hand.model.generation_config is settings


def test_answers_end_at_the_end_or_are_cut(by_hand):
    texts = drawn(by_hand, 200, n_tokens=8)
    lengths = Counter(map(len, texts))  # each token is a letter
    assert set().union(*texts) == {"a", "b"}
    assert max(lengths) == 8
    # Of all, (7/8) ** 8 = 34 % are cut, and 1/8 are empty.
    assert lengths[8] / 200 == pytest.approx(0.34, abs=0.12)
    assert lengths[0] / 200 == pytest.approx(0.125, abs=0.08)


def test_an_answer_has_a_token_though_the_prompt_takes_all(by_hand):
    prompt = [5] * 9
    texts = sample(by_hand, prompt, 20, max_length=4, temperature=1.0, seed=1)
    assert {len(text) for text in texts} == {0, 1}


def test_the_seed_alone_decides(language_model):
    (prompt,) = encode_prompts(language_model.tokenizer, ["Who?"])
    options = {"max_length": len(prompt) + 5, "temperature": 3.0}

    def texts(seed):
        return sample(language_model, prompt, 3, seed=seed, **options)

    torch.manual_seed(7)
    first, state = texts(1), torch.get_rng_state()
    torch.manual_seed(8)
    assert texts(1) == first
    assert texts(2) != first
    torch.manual_seed(7)
    assert torch.equal(torch.get_rng_state(), state)  # that of others is left as it was


def test_answers_are_the_model_s_own(language_model):
    """Next to greedy at a low temperature, they are the first choices of plain passes."""
    (prompt,) = encode_prompts(language_model.tokenizer, ["Who?"])
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(6):
            ids.append(language_model.model(torch.tensor([ids])).logits[0, -1].argmax().item())
    options = {"max_length": len(prompt) + 6, "temperature": 1e-4, "seed": 1}
    expected = language_model.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True).strip()
    assert expected
    assert sample(language_model, prompt, 2, **options) == [expected] * 2


def test_no_token_is_left_out(language_model):
    """Where all 300 are about as likely, 600 draws have far more texts than 50."""
    assert len(set(drawn(language_model, 600, temperature=1e6))) > 80


def drawn_of_each(language_model, prompts, n, n_tokens=1, temperature=1.0, seed=1, batch_size=64):
    options = {"temperature": temperature, "seed": seed, "batch_size": batch_size}
    return sample_each(language_model, prompts, n, n_tokens=n_tokens, **options)


def test_answers_to_several_prompts_have_the_model_s_probabilities(by_hand):
    for texts in drawn_of_each(by_hand, [[5, 6, 7], [8, 9]], 4000, batch_size=8000):
        assert shares(texts) == pytest.approx({"a": 1 / 2, "b": 3 / 8, "": 1 / 8}, abs=0.03)


def test_a_lower_temperature_sharpens_what_several_prompts_get(by_hand):
    (texts,) = drawn_of_each(by_hand, [[5, 6, 7]], 4000, temperature=0.5)
    total = 1 / 4 + 9 / 64 + 1 / 64
    expected = {"a": 1 / 4 / total, "b": 9 / 64 / total, "": 1 / 64 / total}
    assert shares(texts) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("batch_size", [1, 12, 64])
def test_an_answer_does_not_depend_on_what_is_sampled_beside_it(language_model, batch_size):
    prompts = encode_prompts(language_model.tokenizer, ["Who?", "Where was she born?", "Why?"])
    options = {"n_tokens": 30, "temperature": 1.0, "seed": 3}
    whole = sample_each(language_model, prompts, 6, batch_size=18, **options)
    assert sample_each(language_model, prompts, 6, batch_size=batch_size, **options) == whole
    assert len(set(whole[0])) > 1
    assert sample_each(language_model, prompts, 6, batch_size=18, **options | {"seed": 4}) != whole


def check_greedy(language_model, n):
    """At a low temperature each answer is the greedy one."""
    questions = ["Who?", "Where was she born, and when was that?", "Why is it so?"]
    prompts = encode_prompts(language_model.tokenizer, questions)
    options = {"temperature": 1e-4, "seed": 1, "batch_size": 3 * n}
    sampled = sample_each(language_model, prompts, n, n_tokens=25, **options)
    greedy = generate(language_model, questions, 100, batch_size=3, n_tokens=25)["generated"]
    assert sampled == [[text] * n for text in greedy]


def test_at_a_low_temperature_each_answer_is_the_greedy_one(language_model):
    check_greedy(language_model, n=4)


@pytest.mark.parametrize("family", ["mamba", "mistral", "gpt2"])
def test_models_of_any_kind_of_memory_are_sampled(make_family, family):
    check_greedy(make_family(family), n=2)
