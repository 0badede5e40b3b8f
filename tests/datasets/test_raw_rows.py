"""Raw rows and refusals as catalog entries."""

import json

import pytest
from kedro.io.core import DatasetError

from closer_look.datasets.raw_rows import QuestionsDataset, RefusalsDataset


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"question": f"Who is {n}?", "answer": "She."}) for n in range(9)]
    path.write_text("\n".join(lines))
    return QuestionsDataset(filepath=str(path), split="retain")


@pytest.fixture
def refusals(tmp_path):
    path = tmp_path / "refusals.txt"
    path.write_text("I do not know.\n\nI cannot say.\n")
    return RefusalsDataset(filepath=str(path))


def test_rows_come_as_a_questions_table_of_the_split(rows):
    table = rows.load()
    assert list(table["row_id"]) == [f"retain-{n:04d}" for n in range(1, 10)]
    assert set(table["split"]) == {"retain"}


def test_refusals_come_as_sentences(refusals):
    assert refusals.load() == ["I do not know.", "I cannot say."]


def test_published_refusals_are_read(published_rows):
    sentences = RefusalsDataset(filepath=str(published_rows / "idontknow.jsonl")).load()
    assert len(sentences) == 100
    assert sentences[0] == "I'm not certain about that."


@pytest.mark.parametrize("dataset", ["rows", "refusals"])
def test_raw_data_are_never_written(dataset, request):
    dataset = request.getfixturevalue(dataset)
    before = dataset.load()
    with pytest.raises(DatasetError, match="read only"):
        dataset.save("anything")
    assert len(dataset.load()) == len(before)


def test_existence_of_the_file_is_seen(rows, tmp_path):
    assert rows.exists()
    assert not QuestionsDataset(filepath=str(tmp_path / "nope.jsonl"), split="retain").exists()


def test_missing_file_says_where_to_get_it(tmp_path):
    dataset = RefusalsDataset(filepath=str(tmp_path / "nope.txt"), source="see the README")
    with pytest.raises(DatasetError, match=r"nope\.txt is missing; see the README"):
        dataset.load()


def test_preview_shows_the_first_rows(rows):
    assert len(rows.preview(nrows=3)["data"]) == 3


def test_preview_of_refusals_shows_sentences(refusals):
    assert refusals.preview(nrows=1)["data"] == [["I do not know."]]
