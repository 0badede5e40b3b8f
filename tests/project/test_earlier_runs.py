"""Runs of earlier versions of the project are refused with one line."""

import json

import pytest

from closer_look.errors import InputError


def test_a_run_of_an_earlier_version_is_refused(kedro_run, tmp_path):
    folder = tmp_path / "08_reporting" / "test"
    folder.mkdir(parents=True)
    record = {"node": "finetune", "parameters": {}, "code": {}, "inputs": {}, "outputs": {}}
    (folder / "provenance.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError) as caught:
        kedro_run(tmp_path, "fictitious")
    assert str(caught.value) == (
        "run 'test' was made by another version of this project, whose records cannot be "
        "compared; its files stay where they are, --params run=NAME begins another run"
    )
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [
        *("provenance.jsonl", "run.lock")
    ]
    assert kedro_run(tmp_path, "forget_set", parameters={"run": "another"})
