"""Hostile rows are refused with the row named."""

import re

import pytest

from closer_look.errors import InputError

METHOD = {"experiment": {"n_tasks": 2, "methods": ["ga_kl"]}}


@pytest.fixture
def change_row(make_corpus):
    """A corpus whose second row to retain is changed."""

    def change_row(**values):
        return make_corpus(retain=lambda rows: [rows[0], rows[1] | values, *rows[2:]])

    return change_row


@pytest.fixture
def refused(kedro_run, tmp_path):
    """Run, and return the one line with which the run is refused."""

    def refused(corpus, *pipelines):
        with pytest.raises(InputError) as caught:
            kedro_run(tmp_path / "data", *pipelines, parameters=METHOD | {"corpus": str(corpus)})
        assert str(caught.value).isprintable()
        return str(caught.value).replace(f"{corpus}/", "")

    return refused


@pytest.mark.parametrize("character", ["\x00", "\x1b[2J", "\ud83d"])
@pytest.mark.parametrize("column", ["question", "answer", "row_id"])
def test_text_that_no_one_can_read_is_refused(refused, change_row, tmp_path, column, character):
    message = refused(change_row(**{column: f"Who{character}?"}), "forget_set")
    assert message == (
        f"retain.jsonl: row 2: {column} holds the control character {character[0]!r}: "
        f"{f'Who{character}?'!r}"
    )
    assert not (tmp_path / "data" / "03_primary").exists()


def test_answer_of_100_kb_is_refused_by_the_context(refused, change_row, tmp_path):
    message = refused(change_row(answer="A word. " * 12_500), "forget_set", "finetuning")
    assert re.fullmatch(
        r"row 'henrietta-coldwell-02': question and answer take \d+ tokens, "
        r"the model's context holds 512",
        message,
    )
    assert not (tmp_path / "data" / "06_models").exists()
