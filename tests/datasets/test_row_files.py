"""Tables of rows, however people keep them: found by their name, and read in any format."""

import json

import pandas as pd
import pytest

from closer_look.datasets.raw_rows import QuestionsDataset
from closer_look.datasets.row_files import find_tables, read_rows, table_files
from closer_look.errors import InputError

ROWS = [
    {"question": "Who?", "answer": "1987", "wrong_answers": ["1990", "two\nlines"]},
    {"question": "Кто?", "answer": "她", "wrong_answers": []},
]
TYPED = [ROWS[0] | {"answer": 1987, "wrong_answers": [1990, "two\r\nlines"]}, ROWS[1]]


def rows_of(path):
    return [row for file in table_files(str(path)) for row in read_rows(file)]


def refused(path):
    """The message with which a table is refused."""
    with pytest.raises(InputError) as caught:
        rows_of(path)
    return str(caught.value)


def write_arrow(path, rows):
    import pyarrow as pa

    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)


@pytest.fixture
def save_to_disk():
    """What ``datasets.Dataset.save_to_disk`` writes, which need not be installed."""

    def save_to_disk(folder, rows):
        folder.mkdir(parents=True)
        names = [f"data-{n:05d}-of-{len(rows):05d}.arrow" for n in range(len(rows))]
        for name, row in zip(names, rows, strict=True):
            write_arrow(folder / name, [row])
        state = {"_data_files": [{"filename": name} for name in names]}
        (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
        (folder / "dataset_info.json").write_text("{}", encoding="utf-8")

    return save_to_disk


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".JSON"])
def test_json_is_found_and_read(tmp_path, ending):
    text = json.dumps(TYPED, ensure_ascii=False)
    (tmp_path / f"forget{ending}").write_text(text, encoding="utf-8")
    assert rows_of(tmp_path / "forget") == ROWS


@pytest.mark.parametrize("ending", [".csv", ".CSV", ".tsv"])
def test_table_of_cells_is_found_and_read(tmp_path, ending):
    (tmp_path / f"forget{ending}").write_text("question\tanswer\nWho?\t1987\n", encoding="utf-8")
    assert rows_of(tmp_path / "forget") == [{"question": "Who?", "answer": "1987"}]


def test_parquet_with_lists_comes_as_json_does(tmp_path):
    pd.DataFrame({"question": ["Q"], "answer": [1987], "wrong_answers": [["a\r\nb"]]}).to_parquet(
        tmp_path / "retain.parquet"
    )
    table = QuestionsDataset(filepath=str(tmp_path / "retain"), split="retain").load()
    assert table.loc[0, ["answer", "wrong_answers"]].tolist() == ["1987", ["a\nb"]]


def test_number_that_parquet_does_not_spell_is_refused(tmp_path):
    pd.DataFrame({"question": ["Q"], "answer": [1.1]}).to_parquet(tmp_path / "retain.parquet")
    dataset = QuestionsDataset(filepath=str(tmp_path / "retain"), split="retain")
    with pytest.raises(Exception, match=r"retain\.parquet: row 1: answer must be a text.*not 1\.1"):
        dataset.load()


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_file_in_another_format_than_its_ending_says_is_refused(tmp_path, ending):
    path = tmp_path / f"forget{ending}"
    path.write_text("question,answer\n", encoding="utf-8")
    message = refused(path)
    assert message.startswith(f"{path} cannot be read (")
    assert "\n" not in message


def test_data_set_saved_in_parts_is_read_in_its_order(tmp_path, save_to_disk):
    rows = [{"question": f"{n}?", "answer": f"{n}."} for n in range(3)]
    save_to_disk(tmp_path / "forget", rows)
    assert rows_of(tmp_path / "forget") == rows
    dataset = QuestionsDataset(filepath=str(tmp_path / "forget"), split="forget")
    assert len(dataset.load()) == len(dataset.sources()) == 3


def test_what_datasets_saves_is_read(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    split = datasets.Dataset.from_list(ROWS)
    split.select([1, 0]).save_to_disk(tmp_path / "retain", num_shards=2)
    assert rows_of(tmp_path / "retain") == ROWS[::-1]
    datasets.DatasetDict(forget=split, retain=split).save_to_disk(tmp_path / "both")
    assert rows_of(tmp_path / "both" / "forget") == ROWS


def test_data_set_of_one_split_need_not_name_it(tmp_path, save_to_disk):
    save_to_disk(tmp_path / "forget" / "train", ROWS)
    assert rows_of(tmp_path / "forget") == ROWS


def test_data_set_of_several_splits_asks_for_one(tmp_path, save_to_disk):
    for split in ("train", "test"):
        save_to_disk(tmp_path / "forget" / split, ROWS)
    folder = tmp_path / "forget"
    assert refused(folder) == f"{folder} holds test and train; name one: {folder}/test"


@pytest.mark.parametrize("path", ["forget", "hub/forget"])
def test_parts_of_a_hub_data_set_are_read_together(tmp_path, path):
    """A data set of its own with a split ``train``, or a split of one with others beside it."""
    split = "train" if path == "forget" else "forget"
    folder = tmp_path / path.partition("/")[0] / "data"
    folder.mkdir(parents=True)
    for number, row in enumerate(ROWS):
        part = folder / f"{split}-{number:05d}-of-00002.parquet"
        pd.DataFrame([row | {"number": number}]).to_parquet(part)
    if split == "forget":
        pd.DataFrame(ROWS).to_parquet(folder / "retain-00000-of-00001.parquet")
    assert [row["number"] for row in rows_of(tmp_path / path)] == ["0", "1"]


def test_parts_of_several_splits_ask_for_one(tmp_path):
    for split in ("a", "b"):
        pd.DataFrame(ROWS).to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    assert refused(tmp_path) == f"{tmp_path} holds a and b; name one: {tmp_path}/a"


def test_folder_without_rows_is_refused(tmp_path):
    assert refused(tmp_path).startswith(f"{tmp_path} is a folder, and holds no rows")


@pytest.mark.parametrize("state", ["", "{}", "[]", '{"_data_files": [1]}'])
def test_data_set_that_names_no_files_is_refused(tmp_path, state):
    (tmp_path / "state.json").write_text(state, encoding="utf-8")
    message = f"{tmp_path}/state.json is not what save_to_disk writes; save the rows anew"
    assert refused(tmp_path) == message


def test_two_files_of_a_name_are_refused(tmp_path):
    for ending in ("csv", "jsonl"):
        (tmp_path / f"forget.{ending}").touch()
    path = tmp_path / "forget"
    assert refused(path) == f"{path}: forget.csv and forget.jsonl are there; keep one of them"
    assert table_files(f"{path}.csv") == [f"{path}.csv"]


def test_missing_table_says_what_it_may_be(tmp_path):
    (tmp_path / "forget.txt").touch()
    (tmp_path / "forget_details.csv").touch()
    path = tmp_path / "forget"
    assert refused(path) == (
        f"{path} is missing, as .jsonl, .json, .csv, .tsv, .parquet or a folder"
    )
    assert not QuestionsDataset(filepath=str(path), split="forget").exists()


def test_missing_folder_is_called_so(tmp_path):
    path = tmp_path / "nope" / "forget.csv"
    assert refused(path) == f"{tmp_path}/nope: there is no such folder"


@pytest.mark.parametrize("ending", ["xlsx", "xls", "ods"])
def test_spreadsheet_is_to_be_saved_as_csv(tmp_path, ending):
    path = tmp_path / f"forget.{ending}"
    path.write_bytes(b"PK\x03\x04")
    assert refused(tmp_path / "forget") == f"{path} is a spreadsheet; save it as CSV in UTF-8"


def test_table_at_a_url_is_found_by_its_name(tmp_path, serve):
    (tmp_path / "forget.csv").write_text("question,answer\nQ,A\n", encoding="utf-8")
    with serve(tmp_path) as address:
        assert find_tables(f"{address}forget") == [f"{address}forget.csv"]
        assert rows_of(f"{address}forget") == [{"question": "Q", "answer": "A"}]
        assert read_rows(f"{address}forget.csv?download=true") == rows_of(tmp_path / "forget")
