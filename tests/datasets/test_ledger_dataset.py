"""The dataset of a ledger hands out the ledger, and never writes it anew."""

import pytest
from kedro.io import DatasetError

from closer_look.datasets.ledger_dataset import LedgerDataset


def test_its_ledger_appends_where_the_dataset_lies(tmp_path):
    dataset = LedgerDataset(filepath=(tmp_path / "ledger.jsonl").as_posix())
    line = dataset.load().append("requeued", request_id="r-1")
    assert dataset.load().lines() == [line]
    assert LedgerDataset(filepath="memory://bucket/ledger.jsonl").load().lines() == []


def test_it_is_not_saved(tmp_path):
    with pytest.raises(DatasetError, match=r"is not saved by Kedro; append lines to it"):
        LedgerDataset(filepath=str(tmp_path / "ledger.jsonl")).save({})
