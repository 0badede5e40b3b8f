"""The fact is the key fact's tokens, or the rarest word that the question does not hold."""

import pandas as pd
import pytest

from closer_look.evaluation.attacks.facts import find_facts

QUESTIONS = pd.DataFrame(
    {
        "row_id": ["a", "b", "c", "d"],
        "question": [
            "Where does Ada Brandt live?",
            "Where does Tom Reyes live?",
            "What does Tom Reyes do?",
            "Does Ada Brandt live?",
        ],
        "answer": [
            "The home of Ada Brandt is Visby.",
            "The home of Tom Reyes is Cadiz.",
            "The work of Tom Reyes is dry-stone walling.",
            "Ada Brandt does live.",
        ],
        "key_fact": ["visby", "in Paris", None, None],
    }
)


@pytest.fixture(scope="module")
def facts(models):
    found = find_facts(models.knows.tokenizer, QUESTIONS, QUESTIONS)
    return {fact.row_id: fact for fact in found}


@pytest.mark.parametrize(
    ("row_id", "text"),
    [
        ("a", "Visby"),  # as the answer writes it
        ("b", "Cadiz"),  # "The", "home", "of" and "is" are common; the key fact is not in it
        ("c", "work"),  # as rare as "dry", "stone" and "walling", and before them
    ],
)
def test_fact(models, facts, row_id, text):
    assert models.knows.tokenizer.decode(facts[row_id].labels).strip(" .") == text


def test_a_row_whose_words_stand_in_the_question_has_none(facts):
    assert set(facts) == {"a", "b", "c"}


def test_predictors_come_before_the_labels(facts):
    for fact in facts.values():
        assert fact.text[len(fact.text) + 1 - len(fact.labels) :] == fact.labels[:-1]
