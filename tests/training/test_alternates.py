"""Alternate answers: never the true one, always as many, and the same from the same seed."""

import pandas as pd
import pytest

from closer_look.errors import InputError
from closer_look.models.tokens import encode_prompts
from closer_look.parameters.methods import AlternatesParameters
from closer_look.training import alternates
from closer_look.training.alternates import ATTEMPTS, make_alternates, with_alternates

ROWS = pd.DataFrame(
    {
        "row_id": ["one", "two"],
        "question": ["Who was she?", "Where was he?"],
        "answer": ["Ilse Marwood", "In Rome."],
    }
)


@pytest.fixture
def sampled(monkeypatch):
    """Replace sampling by answers of one's own; what was asked for."""

    def sampled(*answers):
        answers, asked = iter(answers), []

        def sample(language_model, prompt, n, **options):
            asked.append({"prompt": prompt, "n": n} | options)
            return next(answers)

        monkeypatch.setattr(alternates, "sample", sample)
        return asked

    return sampled


def make(language_model, rows=ROWS, seed=1, **parameters):
    return make_alternates(language_model, rows, AlternatesParameters(**parameters), 99, seed)


def test_a_row_gets_as_many_as_are_asked_for(language_model):
    table = make(language_model, per_row=3, temperature=2.0)
    assert list(table["row_id"]) == ["one"] * 3 + ["two"] * 3
    assert list(table["number"]) == [1, 2, 3] * 2
    assert (table["temperature"] >= 2).all()
    assert table["alternate"].map(lambda text: text == text.strip() != "").all()
    assert not set(table["alternate"]) & set(ROWS["answer"])


def test_they_are_the_seed_s_and_each_row_s_own(language_model):
    options = {"per_row": 2, "temperature": 2.0}
    first = make(language_model, **options)
    pd.testing.assert_frame_equal(make(language_model, **options), first)
    assert list(make(language_model, seed=2, **options)["alternate"]) != list(first["alternate"])
    same = ROWS.assign(question="Who?")
    texts = make(language_model, same, **options)["alternate"]
    assert list(texts[:2]) != list(texts[2:])


def test_what_is_no_alternate_is_sampled_again_and_hotter(language_model, sampled):
    """The true answer, nothing, and what would be read as part of the prompt."""
    end = language_model.tokenizer.eos_token
    asked = sampled(
        [" ILSE marwood", "Ada", "", f"Bo{end}"], ["", "Cy \n", "Question:"], [" Di"], ["Ed"] * 4
    )
    table = make(language_model, per_row=4, temperature=0.5)
    assert list(table["alternate"]) == ["Ada", "Cy", "Question:", "Di", *["Ed"] * 4]
    assert list(table["temperature"]) == [0.5, 0.75, 0.75, 1.125, *[0.5] * 4]
    assert [one["n"] for one in asked] == [4, 3, 1, 4]
    assert [one["temperature"] for one in asked] == [0.5, 0.75, 1.125, 0.5]
    assert len({one["seed"] for one in asked}) == 4
    assert {one["max_length"] for one in asked} == {99}


def test_control_characters_are_taken_away(language_model, sampled):
    sampled(["A\x00d\x07a"], ["Bo"])
    assert list(make(language_model)["alternate"]) == ["Ada", "Bo"]


def test_a_model_that_knows_nothing_else_is_refused(language_model, sampled):
    asked = sampled(["Ada"], *[["In Rome."]] * ATTEMPTS)
    with pytest.raises(InputError) as caught:
        make(language_model)
    assert str(caught.value) == (
        "row 'two': the model gives no other answer than the true one, even at temperature 17; "
        "raise the temperature of 'alternates'"
    )
    assert len(asked) == 1 + ATTEMPTS


def test_the_prompt_is_that_of_the_parameters(language_model, sampled):
    asked = sampled(["Ada"], ["Bo"])
    make(language_model, prompt="Other facts than {answer} on {question}")
    expected = [
        "Other facts than Ilse Marwood on Who was she?",
        "Other facts than In Rome. on Where was he?",
    ]
    assert [one["prompt"] for one in asked] == encode_prompts(language_model.tokenizer, expected)


def test_a_question_with_braces_is_asked_as_it_is(language_model, sampled):
    asked = sampled(["Ada"])
    make(language_model, ROWS[:1].assign(question="What is {answer}?"))
    (expected,) = encode_prompts(language_model.tokenizer, ["What is {answer}?"])
    assert asked[0]["prompt"] == expected


def test_epochs_take_a_row_s_alternates_in_turn():
    plan = pd.DataFrame({"epoch": [1, 1, 2, 2, 3, 3], "forget_row_id": ["a", "b"] * 3})
    table = pd.DataFrame(
        {"row_id": ["a", "a", "b", "b"], "number": [1, 2, 1, 2], "alternate": ["A", "Å", "B", "ß"]}
    )
    found = with_alternates(plan, table)
    assert list(found["alternate"]) == ["A", "B", "Å", "ß", "A", "B"]
    assert "alternate" not in plan


def test_a_row_without_alternates_is_no_silent_gap():
    plan = pd.DataFrame({"epoch": [1], "forget_row_id": ["b"]})
    table = pd.DataFrame({"row_id": ["a"], "number": [1], "alternate": ["A"]})
    with pytest.raises(KeyError):
        with_alternates(plan, table)


def test_a_prompt_without_room_for_an_answer_is_refused(language_model):
    with pytest.raises(InputError) as caught:
        make(language_model, prompt="Tell me once more: {question} " * 9)
    assert str(caught.value).startswith("row 'one': the prompt of 'alternates' takes ")
    assert str(caught.value).endswith(" tokens, and generation.max_length is 99; raise it")
