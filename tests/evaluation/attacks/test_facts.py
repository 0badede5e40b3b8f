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


def _rows(question, answer):
    columns = {"row_id": "x", "question": question, "answer": answer, "key_fact": None}
    return pd.DataFrame([columns])


def test_a_word_of_another_script_is_whole(models):
    rows = _rows("वह कहाँ है?", "वह दिल्ली है।")
    (fact,) = find_facts(models.knows.tokenizer, rows, rows)
    assert models.knows.tokenizer.decode(fact.labels).strip() == "दिल्ली"


def test_without_spaces_between_words_only_a_key_fact_is_found(models):
    rows = _rows("她的父亲是谁", "她的父亲是一名医生。")
    assert find_facts(models.knows.tokenizer, rows, rows) == []
    (fact,) = find_facts(models.knows.tokenizer, rows.assign(key_fact="医生"), rows)
    assert models.knows.tokenizer.decode(fact.labels) == "医生"


def test_predictors_come_before_the_labels(facts):
    for fact in facts.values():
        assert fact.text[len(fact.text) + 1 - len(fact.labels) :] == fact.labels[:-1]
