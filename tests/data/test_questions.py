"""The questions table: published and own files come in alike, faulty ones not at all."""

import sys
import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closer_look.data.questions import (
    QUESTIONS,
    check_questions,
    check_text,
    name_subjects,
    to_questions,
)
from closer_look.datasets.lines import read_json
from closer_look.errors import InputError

ROW = {"question": "Who?", "answer": "She."}


def refused(rows, split="retain"):
    """The message with which the rows are refused."""
    with pytest.raises(InputError) as caught:
        to_questions(rows, split, "rows.jsonl")
    return str(caught.value)


def test_question_and_answer_are_enough():
    table = to_questions([ROW, ROW], "retain", "rows.jsonl")
    assert table.iloc[1].to_dict() == {
        "row_id": "retain-0002",
        "task_id": 0,
        "split": "retain",
        "subject": None,
        "question": "Who?",
        "answer": "She.",
        "gold_answer": "She.",
        "reference_answer": None,
        "paraphrased_question": None,
        "paraphrased_answer": None,
        "wrong_answers": [],
        "key_fact": None,
        "related": [],
    }


@pytest.mark.parametrize(
    ("column", "value", "missing"),
    [
        ("subject", "Ilse", None),
        ("paraphrased_answer", "Her.", None),
        ("wrong_answers", ["He."], []),
        ("key_fact", "she", None),
        ("gold_answer", "It was she.", "She."),
        ("reference_answer", "It was she.", None),
        ("row_id", "one", "retain-0002"),
    ],
)
def test_a_row_may_lack_what_another_row_has(column, value, missing):
    table = to_questions([ROW | {column: value}, ROW], "retain", "rows.jsonl")
    assert list(table[column]) == [value, missing]


@pytest.mark.parametrize(
    ("published", "column", "value"),
    [
        ("perturbed_answer", "wrong_answers", ["He.", "They."]),
        ("original_answer", "reference_answer", "It was she."),
        ("golden_answer", "gold_answer", "It was she."),
        ("name", "subject", "Ilse"),
    ],
)
def test_published_names_are_understood(published, column, value):
    table = to_questions([ROW | {published: value}], "retain", "rows.jsonl")
    assert table[column][0] == value


def test_columns_of_no_use_are_left_out():
    table = to_questions([ROW | {"comment": "x"}], "retain", "rows.jsonl")
    assert list(table) == list(QUESTIONS.columns)


def test_rows_that_are_never_forgotten_have_task_0():
    assert to_questions([ROW | {"task_id": 3}], "retain", "rows.jsonl")["task_id"][0] == 0


def test_task_ids_may_be_written_as_texts():
    rows = [ROW | {"task_id": task_id} for task_id in ("2", "1", "2")]
    assert list(to_questions(rows, "forget", "rows.jsonl")["task_id"]) == [2, 1, 2]


def test_table_is_the_same_after_a_parquet_file(tmp_path):
    rows = [
        ROW | {"wrong_answers": ["He.", "They."], "key_fact": "she"},
        ROW | {"subject": "Ilse"},
    ]
    table = to_questions(rows, "retain", "rows.jsonl")
    table.to_parquet(tmp_path / "questions.parquet")
    loaded = pd.read_parquet(tmp_path / "questions.parquet")
    loaded["wrong_answers"] = loaded["wrong_answers"].map(list)
    loaded = loaded.astype(object).where(loaded.notna(), None)
    pd.testing.assert_frame_equal(loaded, table, check_dtype=False)


@pytest.mark.parametrize(
    ("file", "split", "n_rows", "n_tasks"),
    [
        ("tofu/forget01.json", "forget", 400, 10),
        ("tofu/forget01_perturbed.json", "forget", 400, 10),
        ("tofu/retain90.json", "retain", 3600, 0),
        ("tofu/retain_perturbed.json", "retain", 400, 0),
        ("tofu/real_authors_perturbed.json", "real_authors", 100, 0),
        ("tofu/world_facts_perturbed.json", "world_facts", 117, 0),
        ("real_world/forget_perturbed.json", "forget", 400, 20),
        ("real_world/neighbor_perturbed.json", "neighbour", 400, 0),
    ],
)
def test_published_files_are_read_as_they_are(published_rows, file, split, n_rows, n_tasks):
    path = str(published_rows / file)
    table = to_questions(read_json(path), split, path)
    assert (len(table), table["task_id"].max()) == (n_rows, n_tasks)


@pytest.mark.parametrize(
    ("file", "split", "columns"),
    [
        ("tofu/forget05_perturbed.json", "forget", ["paraphrased_answer"]),
        ("tofu/real_authors_perturbed.json", "real_authors", ["reference_answer"]),
        ("real_world/forget_perturbed.json", "forget", ["paraphrased_answer", "subject"]),
        ("real_world/neighbor_perturbed.json", "neighbour", ["gold_answer", "paraphrased_answer"]),
    ],
)
def test_published_files_fill_their_columns(published_rows, file, split, columns):
    path = str(published_rows / file)
    table = to_questions(read_json(path), split, path)
    assert table[columns].notna().all(axis=None)
    assert table["wrong_answers"].map(len).min() >= 3


def test_published_reference_answer_is_not_the_short_answer(published_rows):
    path = str(published_rows / "tofu" / "real_authors_perturbed.json")
    row = to_questions(read_json(path), "real_authors", path).iloc[0]
    assert row["answer"] == "William Shakespeare"
    assert row["reference_answer"].endswith("was written by William Shakespeare.")


def test_published_gold_answer_is_not_the_trained_one(published_rows):
    path = str(published_rows / "real_world" / "neighbor_perturbed.json")
    row = to_questions(read_json(path), "neighbour", path).iloc[0]
    assert row["answer"] == "Nick Frost was born on March 28, 1972."
    assert row["gold_answer"] == "Nick Frost was born on 28 March 1972."


def test_no_rows_are_refused():
    assert refused([]) == "rows.jsonl: the table is empty"


@pytest.mark.parametrize("column", ["question", "answer"])
def test_missing_column_is_named(column):
    row = {name: text for name, text in ROW.items() if name != column}
    assert refused([row]) == f"rows.jsonl: column '{column}' is missing"


def test_forget_rows_without_a_column_of_tasks_are_one_task():
    assert list(to_questions([ROW, ROW], "forget", "rows.jsonl")["task_id"]) == [1, 1]


@pytest.mark.parametrize("column", ["question", "answer"])
def test_value_missing_in_one_row_is_named(column):
    row = {name: text for name, text in ROW.items() if name != column}
    assert refused([ROW, row]) == f"rows.jsonl: row 2: {column} is missing"


@pytest.mark.parametrize(
    "column",
    [
        "question",
        "answer",
        "gold_answer",
        "reference_answer",
        "paraphrased_question",
        "paraphrased_answer",
        "subject",
        "key_fact",
    ],
)
@pytest.mark.parametrize("value", ["", " \n", 7, ["She."]])
def test_what_is_not_a_text_is_refused(column, value):
    message = refused([ROW, ROW | {column: value}])
    assert message.startswith(f"rows.jsonl: row 2: {column} must be a text that is not empty")


@pytest.mark.parametrize("value", ["He.", 7, [7], [""], {"a": "He."}])
def test_wrong_answers_must_be_a_list_of_texts(value):
    message = refused([ROW, ROW | {"wrong_answers": value}])
    assert message == f"rows.jsonl: row 2: wrong_answers must be a list of texts, not {value!r}"


@pytest.mark.parametrize("value", ["one", 0, -1, 1.5, None, [1], float("inf"), 10**400])
def test_task_id_must_be_a_positive_integer(value):
    message = refused([ROW | {"task_id": 1}, ROW | {"task_id": value}], "forget")
    assert message.startswith("rows.jsonl: row 2: task_id must be a positive integer, not ")


def test_task_without_rows_is_refused():
    message = refused([ROW | {"task_id": 1}, ROW | {"task_id": 3}], "forget")
    assert message.startswith("rows.jsonl: no row has task_id 2")


def test_row_id_that_comes_twice_is_named():
    rows = [ROW | {"row_id": row_id} for row_id in ("a", "b", "a")]
    assert refused(rows) == "rows.jsonl: row_id 'a' occurs more than once"


def test_row_id_that_two_tables_share_is_named():
    rows = [ROW | {"row_id": "a"}]
    both = [to_questions(rows, split, "rows.jsonl") for split in ("retain", "world_facts")]
    with pytest.raises(InputError, match=r"^questions: row_id 'a' occurs more than once$"):
        check_questions(pd.concat(both, ignore_index=True), "questions")


def test_two_names_of_one_column_are_refused():
    message = refused([ROW | {"golden_answer": "x", "gold_answer": "y"}])
    assert message.startswith("rows.jsonl: column 'gold_answer' comes more than once")


def test_unknown_split_is_refused():
    assert "split must be one of forget, retain" in refused([ROW], "forgotten")


def test_message_is_one_line_though_the_value_is_not():
    assert "\n" not in refused([ROW | {"question": ["line\nbreak"]}])


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\r", "\x7f", "\x9b", "\ud83d"])
@pytest.mark.parametrize("column", ["row_id", "question", "answer", "key_fact", "wrong_answers"])
def test_control_character_is_refused(column, character):
    text = f"Who{character}?"
    value = ["He.", text] if column == "wrong_answers" else text
    assert refused([ROW, ROW | {column: value}]) == (
        f"rows.jsonl: row 2: {column} holds the control character {character!r}: {text!r}"
    )


@pytest.mark.parametrize("column", ["row_id", "question", "answer", "wrong_answers"])
def test_a_text_of_ten_megabytes_is_refused(column):
    text = "A word. " * 1_250_000
    value = ["He.", text] if column == "wrong_answers" else text
    assert refused([ROW, ROW | {column: value}]) == (
        f"rows.jsonl: row 2: {column} has 10,000,000 characters; leave it out, or keep 1,000,000 "
        f"of them"
    )


def test_no_control_character_but_line_break_and_tab_is_accepted():
    accepted = []
    for character in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(character) in ("Cc", "Cs"):
            try:
                check_text(character, "row 1")
            except InputError:
                continue
            accepted.append(character)
    assert accepted == ["\t", "\n"]


def test_line_breaks_and_tabs_are_text():
    table = to_questions([ROW | {"answer": "One.\n\tTwo."}], "retain", "rows.jsonl")
    assert table["answer"][0] == "One.\n\tTwo."


@pytest.mark.parametrize("value", ["\u200b", "\ufeff \u200d", "\u202e"])
def test_text_of_which_nothing_is_seen_counts_as_empty(value):
    message = refused([ROW | {"answer": value}])
    assert message.startswith("rows.jsonl: row 1: answer must be a text that is not empty")


@pytest.mark.parametrize("row_id", ["a\nb", "a\u2028b"])
def test_row_id_is_on_one_line(row_id):
    message = refused([ROW | {"row_id": row_id}])
    assert message == f"rows.jsonl: row 1: row_id must be on one line, not {row_id!r}"


@pytest.mark.parametrize(
    "row",
    [
        {"answer": ["x" * 100_000]},
        {"answer": "x" * 100_000 + "\x1b"},
        {"row_id": "x" * 100_000},
        {"task_id": "x" * 100_000},
    ],
)
def test_message_shows_a_long_value_shortened(row):
    rows = [ROW | {"task_id": 1} | row] * 2
    assert len(refused(rows, "forget")) < 200


# What JSON can say, in the columns and beside them.
TEXTS = st.text(max_size=6) | st.text(st.characters(max_codepoint=0x7F), max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=2),
    max_leaves=4,
)
COLUMNS = st.sampled_from([*QUESTIONS.columns, "golden_answer", "name", "comment"])
ANY_ROWS = st.lists(st.dictionaries(COLUMNS | TEXTS, VALUES | TEXTS, max_size=5), max_size=3)
LIKELY_ROWS = st.lists(
    st.fixed_dictionaries(
        {"question": TEXTS, "answer": TEXTS, "task_id": st.just(1)},
        optional={
            "row_id": TEXTS,
            "wrong_answers": st.lists(TEXTS, max_size=2),
            "key_fact": TEXTS | VALUES,
            "subject": TEXTS | st.none(),
        },
    ),
    min_size=1,
    max_size=3,
)


@settings(deadline=None, max_examples=150)
@given(rows=ANY_ROWS | LIKELY_ROWS, split=st.sampled_from(["forget", "retain"]))
def test_any_rows_become_a_table_that_parquet_keeps_or_one_line(tmp_path_factory, rows, split):
    try:
        table = to_questions(rows, split, "rows.jsonl")
    except InputError as error:
        assert str(error).startswith("rows.jsonl: ")
        assert len(str(error).splitlines()) == 1
        assert str(error).isprintable()
        return
    assert len(table) == len(rows)
    QUESTIONS.validate(table)
    path = tmp_path_factory.getbasetemp() / "any_rows.parquet"
    table.to_parquet(path)
    loaded = pd.read_parquet(path)
    loaded["wrong_answers"] = loaded["wrong_answers"].map(list)
    loaded = loaded.astype(object).where(loaded.notna(), None)
    pd.testing.assert_frame_equal(loaded, table, check_dtype=False)


SUBJECTS = pd.DataFrame(
    {
        "row_id": ["one", "two", "three", "four"],
        "task_id": [1, 1, 2, 0],
        "subject": ["Ada Bell", "Ada Bell", "Bo Øre", None],
    }
)


def test_subjects_are_those_to_forget_each_once_in_their_order():
    assert name_subjects("Of {subjects}, no.", SUBJECTS) == "Of Ada Bell and Bo Øre, no."
    assert name_subjects("Of {subjects}, no.", SUBJECTS[:2]) == "Of Ada Bell, no."
    assert name_subjects("{subjects}? {subjects}!", SUBJECTS[:1]) == "Ada Bell? Ada Bell!"


def test_spaces_around_an_instruction_are_left_out_as_templates_do():
    assert name_subjects("  Of {subjects}, no.\n", SUBJECTS[:1]) == "Of Ada Bell, no."
    assert name_subjects(" Never.\n", SUBJECTS) == "Never."


def test_a_row_to_forget_without_a_subject_is_refused_by_its_name():
    rows = SUBJECTS.assign(subject=["Ada Bell", None, "Bo Øre", None])
    with pytest.raises(InputError) as caught:
        name_subjects("Of {subjects}, no.", rows)
    assert str(caught.value) == (
        "row 'two': it names no subject, on which an instruction could ask to be silent; add the "
        "column 'subject', or leave the method out"
    )
    assert name_subjects("Never.", rows) == "Never."  # which names nobody


@pytest.mark.parametrize(
    "related",
    [
        "Who?",
        ["Who?"],
        [{}],
        [{"question": ""}],
        [{"question": "Who?", "key_fact": 3}],
        [{"question": "Who?", "anser": "She."}],
    ],
)
def test_related_questions_at_fault_are_refused(related):
    rows = [{"question": "Who?", "answer": "She."} | {"related": related}]
    with pytest.raises(InputError) as caught:
        to_questions(rows, "forget", "rows")
    assert str(caught.value).startswith(
        "rows: row 1: related must be a list of questions, each with texts for question, kind, "
        "answer, key_fact, not "
    )


def test_related_questions_are_kept_as_they_are():
    related = [{"question": "Who?", "kind": "another"}, {"question": "Whose?", "answer": None}]
    (found,) = to_questions([{"question": "Q", "answer": "A", "related": related}], "forget", "r")[
        "related"
    ]
    assert found == related


def test_control_characters_in_related_questions_are_refused():
    rows = [{"question": "Q", "answer": "A", "related": [{"question": "Who\x1b?"}]}]
    with pytest.raises(InputError, match="row 1: related holds the control character"):
        to_questions(rows, "forget", "rows")
