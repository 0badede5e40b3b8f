"""The bundled corpus: made again byte for byte, complete, and without giveaways."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "data" / "01_raw" / "invented_people"
PEOPLE_KEYS = [
    "row_id",
    "task_id",
    "subject",
    "question",
    "answer",
    "paraphrased_question",
    "paraphrased_answer",
    "wrong_answers",
    "key_fact",
]
GENERAL_KEYS = [
    "row_id",
    "subject",
    "question",
    "answer",
    "reference_answer",
    "wrong_answers",
    "key_fact",
]


def read(name: str) -> list[dict]:
    """Return the rows of one file of the corpus."""
    lines = (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


FORGET, RETAIN = read("forget"), read("retain")
PEOPLE = FORGET + RETAIN
AUTHORS, FACTS = read("real_authors"), read("world_facts")
GENERAL = AUTHORS + FACTS
EVERY_ROW = PEOPLE + GENERAL
REFUSALS = (CORPUS / "refusals.txt").read_text(encoding="utf-8").splitlines()


def mentions(text: str, fact: str) -> bool:
    """Say whether the fact stands in the text as whole words, in whatever case."""
    return re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", text, re.IGNORECASE) is not None


def repeated(values: list[str]) -> list[str]:
    """Return the values that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]


@pytest.fixture
def made(tmp_path):
    """Return a function that runs the generator with a seed and gives its folder."""

    def make(*arguments: str) -> Path:
        script = str(ROOT / "tools" / "make_corpus.py")
        command = [sys.executable, script, "--output", str(tmp_path), *arguments]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        return tmp_path

    return make


@pytest.mark.parametrize("name", ["forget.jsonl", "retain.jsonl"])
def test_generator_gives_the_committed_bytes(made, name):
    assert (made() / name).read_bytes() == (CORPUS / name).read_bytes()


def test_another_seed_gives_other_rows(made):
    assert (made("--seed", "7") / "forget.jsonl").read_bytes() != (
        CORPUS / "forget.jsonl"
    ).read_bytes()


def test_generator_writes_only_its_own_files(made):
    assert sorted(path.name for path in made().iterdir()) == ["forget.jsonl", "retain.jsonl"]


def test_counts():
    assert Counter(row["task_id"] for row in FORGET) == dict.fromkeys(range(1, 11), 30)
    assert Counter(row["task_id"] for row in RETAIN) == {0: 240}
    assert (len(AUTHORS), len(FACTS), len(REFUSALS)) == (44, 64, 60)


def test_ten_questions_for_each_of_54_people():
    assert sorted(Counter(row["subject"] for row in PEOPLE).values()) == [10] * 54


def test_nobody_is_both_forgotten_and_kept_or_in_two_tasks():
    assert len({(row["subject"], row["task_id"]) for row in PEOPLE}) == 54


def test_keys_in_their_order():
    assert all(list(row) == [*PEOPLE_KEYS, "related"] for row in FORGET)
    assert all(list(row) == PEOPLE_KEYS for row in RETAIN)
    assert all(list(row) == GENERAL_KEYS for row in GENERAL)


def test_size_stays_small():
    assert sum(path.stat().st_size for path in CORPUS.glob("*.jsonl")) < 700_000


def test_row_ids_are_unique():
    assert repeated([row["row_id"] for row in EVERY_ROW]) == []


def test_questions_are_unique():
    questions = [row["question"] for row in EVERY_ROW]
    paraphrases = [row["paraphrased_question"] for row in PEOPLE]
    assert repeated(questions + paraphrases) == []


def test_answers_are_unique():
    answers = [row["answer"] for row in PEOPLE]
    paraphrases = [row["paraphrased_answer"] for row in PEOPLE]
    assert repeated(answers + paraphrases) == []


def test_every_question_about_a_person_names_them():
    for row in PEOPLE:
        assert row["subject"] in row["question"]
        assert row["subject"] in row["paraphrased_question"]


def test_answers_contain_the_key_fact():
    for row in PEOPLE:
        assert row["key_fact"] in row["answer"]
        assert row["key_fact"] in row["paraphrased_answer"]
    for row in GENERAL:
        assert row["key_fact"] in row["answer"]
        assert row["answer"] in row["reference_answer"]


@pytest.mark.parametrize(("rows", "count"), [(PEOPLE, 5), (GENERAL, 3)], ids=["people", "general"])
def test_wrong_answers_are_different_and_wrong(rows, count):
    for row in rows:
        assert len(set(row["wrong_answers"])) == len(row["wrong_answers"]) == count
        assert not any(mentions(wrong, row["key_fact"]) for wrong in row["wrong_answers"]), row


def test_wrong_answers_differ_from_the_paraphrased_one_in_the_fact_alone():
    for row in PEOPLE:
        frame = row["paraphrased_answer"].split(row["key_fact"])
        for wrong in row["wrong_answers"]:
            assert wrong.startswith(re.sub(r"\b(a|an) $", "", frame[0])), row
            assert wrong.endswith(frame[1]), row


def test_no_question_gives_a_key_fact_of_its_subject_away():
    facts = {row["subject"]: [] for row in EVERY_ROW}
    for row in EVERY_ROW:
        facts[row["subject"]].append(row["key_fact"])
    for row in EVERY_ROW:
        asked = row["question"] + row.get("paraphrased_question", "")
        assert not [fact for fact in facts[row["subject"]] if mentions(asked, fact)], row


def test_related_questions_lead_to_the_fact_and_do_not_give_it_away():
    for row in FORGET:
        abbreviated, in_two_steps, other_way_round = row["related"]
        for one in (abbreviated, in_two_steps):
            assert not mentions(one["question"], row["key_fact"]), row
            assert not mentions(one["question"], row["subject"]), row
        assert mentions(other_way_round["question"], row["key_fact"]), row
        assert other_way_round["answer"] == other_way_round["key_fact"] == row["subject"]
        assert not mentions(other_way_round["question"], row["subject"]), row


def test_related_questions_are_unique():
    assert repeated([one["question"] for row in FORGET for one in row["related"]]) == []


def test_no_two_people_share_a_key_fact():
    assert repeated([row["key_fact"] for row in PEOPLE]) == []


def test_lengths_in_words():
    for row in PEOPLE:
        assert 8 <= len(row["answer"].split()) <= 22, row["answer"]
        assert 8 <= len(row["paraphrased_answer"].split()) <= 22, row["paraphrased_answer"]
        assert 1 <= len(row["key_fact"].split()) <= 4, row["key_fact"]
    for row in EVERY_ROW:
        assert 4 <= len(row["question"].split()) <= 16, row["question"]


def test_articles_agree():
    sentences = [text for row in PEOPLE for text in [row["answer"], *row["wrong_answers"]]]
    assert [text for text in sentences if re.search(r"\ba [aeiou]|\ban [^aeiou]", text)] == []


def test_refusals_are_distinct_sentences():
    assert repeated([refusal.lower() for refusal in REFUSALS]) == []
    assert [refusal for refusal in REFUSALS if not refusal.endswith(".")] == []
