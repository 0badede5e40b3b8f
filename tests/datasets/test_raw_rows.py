"""Raw rows and refusals as catalog entries."""

import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

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


def test_csv_with_a_question_and_an_answer_is_enough(tmp_path):
    path = tmp_path / "forget.csv"
    path.write_text("question,answer\nWho is Ann?,A botanist.\nWho is Bo?,A smith.\n")
    table = QuestionsDataset(filepath=str(path), split="forget", task_id=1).load()
    assert list(table["answer"]) == ["A botanist.", "A smith."]
    assert list(table["task_id"]) == [1, 1]
    assert list(table["gold_answer"]) == list(table["answer"])


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


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x9b"])
def test_control_character_in_a_refusal_is_refused(tmp_path, character):
    path = tmp_path / "refusals.txt"
    path.write_text(f"I do not know.\n\nI cannot{character} say.\n", encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        RefusalsDataset(filepath=str(path)).load()
    assert f"refusals.txt: line 3 holds the control character {character!r}" in str(caught.value)


def test_preview_shows_the_first_rows(rows):
    assert len(rows.preview(nrows=3)["data"]) == 3


def test_preview_of_refusals_shows_sentences(refusals):
    assert refusals.preview(nrows=1)["data"] == [["I do not know."]]


@pytest.fixture
def write_rows(tmp_path):
    """Write rows, and return the path of the file."""

    def write(name, *rows):
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, rows)))
        return str(path)

    return write


def test_all_rows_may_belong_to_one_task(write_rows):
    path = write_rows(
        "forget.json", *({"question": "Q", "answer": "A", "task_id": n} for n in (1, 7))
    )
    table = QuestionsDataset(filepath=path, split="forget", task_id=1).load()
    assert list(table["task_id"]) == [1, 1]


def test_details_of_some_rows_come_from_another_file(write_rows):
    rows = [{"question": "Q", "answer": answer} for answer in ("A", "B", "C")]
    path = write_rows("retain.json", *rows)
    details = write_rows("details.json", rows[1] | {"paraphrased_answer": "It is B."})
    table = QuestionsDataset(filepath=path, split="retain", details=details).load()
    assert list(table["answer"]) == ["A", "B", "C"]
    assert list(table["paraphrased_answer"]) == [None, "It is B.", None]


def test_details_of_a_question_that_is_no_text_are_refused_as_it_is(write_rows):
    path = write_rows("retain.json", {"question": ["Q"], "answer": "A"})
    dataset = QuestionsDataset(filepath=path, split="retain", details=path)
    with pytest.raises(DatasetError, match=r"retain\.json: row 1: question must be a text"):
        dataset.load()


def test_missing_file_of_details_is_named(write_rows):
    path = write_rows("retain.json", {"question": "Q", "answer": "A"})
    dataset = QuestionsDataset(filepath=path, split="retain", details=f"{path}.details")
    with pytest.raises(DatasetError, match=r"retain\.json\.details is missing"):
        dataset.load()


@pytest.mark.parametrize("retain", ["retain90", "retain50", "retain10"])
def test_published_rows_to_retain_have_details_of_the_first_400(published_rows, retain):
    folder = published_rows / "tofu"
    table = QuestionsDataset(
        filepath=str(folder / f"{retain}.json"),
        details=str(folder / "retain_perturbed.json"),
        split="retain",
    ).load()
    assert table["paraphrased_answer"].notna().sum() == 400
    assert (table["wrong_answers"][:400].map(len) == 5).all()


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_rows_are_read_from_a_url(published_rows):
    """As the published rows are from the authors' repository, ``..`` in the path and all."""
    handler = partial(SilentHandler, directory=str(published_rows))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/tofu"
        table = QuestionsDataset(
            filepath=f"{url}/retain10.json",
            details=f"{url}/retain_perturbed.json",
            split="retain",
        ).load()
        refusals = RefusalsDataset(filepath=f"{url}/../idontknow.jsonl").load()
        missing = RefusalsDataset(filepath=f"{url}/nope.jsonl")
        with pytest.raises(DatasetError, match=r"/tofu/nope\.jsonl is missing$"):
            missing.load()
        server.shutdown()
    assert (len(table), len(refusals)) == (400, 100)
