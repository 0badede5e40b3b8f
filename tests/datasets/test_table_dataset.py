"""Tables on disk: what is saved comes back, and a preview shows columns of any kind."""

import json

import pandas as pd
import pytest
from kedro.io import DatasetError

from closer_look.datasets.table_dataset import TableDataset, preview_rows
from closer_look.errors import InputError

SCORES = pd.DataFrame(
    {
        "row_id": ["a", "b"],
        "n_tokens": [5, 2],
        "token_nll": [[0.123456, 1.0, *range(2, 99)], [0.5, 2.5]],
        "wrong_answers": [["Ann", "Bo"], None],
        "nll": [10.123456, None],
        "known": [True, False],
    }
)
SHORTENED = "0.1235 | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 | 6.0 | 7.0 | 8.0 | …"


@pytest.fixture
def dataset(tmp_path):
    dataset = TableDataset(filepath=str(tmp_path / "scores.parquet"))
    dataset.save(SCORES)
    return dataset


def test_table_comes_back(dataset):
    loaded = dataset.load()
    assert loaded["token_nll"].map(list).tolist() == SCORES["token_nll"].tolist()
    pd.testing.assert_frame_equal(loaded[["row_id", "nll"]], SCORES[["row_id", "nll"]])


@pytest.mark.parametrize("content", [b"", b"hello", b"PAR1" * 4])
def test_damaged_file_is_named(dataset, tmp_path, content):
    (tmp_path / "scores.parquet").write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, InputError)
    assert f"{tmp_path}/scores.parquet cannot be read" in str(caught.value)


def test_preview_shows_every_kind_of_column(dataset):
    preview = dataset.preview()
    assert preview["columns"] == list(SCORES.columns)
    assert preview["data"] == [
        ["a", 5, SHORTENED, "Ann | Bo", 10.12, True],
        ["b", 2, "0.5 | 2.5", "", "", False],
    ]


def test_preview_shows_the_first_rows_alone(dataset):
    assert [row[0] for row in dataset.preview(nrows=1)["data"]] == ["a"]


def test_preview_can_be_written_as_json(dataset):
    assert json.loads(json.dumps(dataset.preview())) == dataset.preview()


def test_a_table_without_rows_shows_its_columns():
    preview = preview_rows(SCORES.head(0))
    assert (preview["columns"], preview["data"]) == (list(SCORES.columns), [])
