"""``kedro run --pipelines verify`` says what holds, and ends with what does not."""

import json
import logging

import pytest

from closer_look.erasure.ledger import Ledger
from closer_look.erasure.signing import sign
from closer_look.erasure.statement import (
    Asked,
    Certificate,
    Done,
    LedgerEntry,
    Model,
    files_digest,
    write_statement,
)
from closer_look.erasure.verification import model_files
from closer_look.errors import InputError

A, B, C = (digit * 64 for digit in "abc")


@pytest.fixture
def data(tmp_path):
    """The folder of artefacts of run "test" with one request that was served."""
    folder = tmp_path / "06_models" / "test" / "erasure" / "model_1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    files = model_files(folder)
    ledger = Ledger(tmp_path / "08_reporting" / "test" / "erasure" / "ledger.jsonl")
    same = {"request_id": "r-1", "rows_sha256": C}
    line = ledger.append(
        "served", **same, model_before=A, model_after=B, files_sha256=files_digest(files)
    )
    done = Done(decision="served", reason="", time="", code_version="1", purged=False)
    certificate = Certificate(
        asked=Asked(**same, received_at="", basis="", n_rows=1),
        done=done,
        model=Model(before=A, after=B, folder="model_1", files=files),
        measured=(),
        not_proven=(),
        ledger=LedgerEntry(index=1, sha256=line.sha256),
    )
    content = sign(write_statement(certificate), None).content
    (tmp_path / "r-1.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_what_holds_is_logged_and_what_does_not_ends_the_run(kedro_run, data, caplog):
    parameters = {"certificate": str(data / "r-1.json")}
    with caplog.at_level(logging.INFO, "closer_look"):
        assert kedro_run(data, "verify", parameters=parameters) == ["verify_certificate"]
    assert "Holds: line 1 of 1 of the ledger, unbroken" in caplog.messages
    assert "Holds: 1 files of the model, as certified" in caplog.messages
    note = "Note: the certificate is not signed: whoever can write the file can have made it"
    assert note in caplog.messages

    (data / "06_models/test/erasure/model_1/model.safetensors").write_bytes(b"others")
    fault = "the model: model.safetensors was changed"
    with pytest.raises(InputError, match=rf"r-1.json does not hold: {fault}$"):
        kedro_run(data, "verify", parameters=parameters)
    assert f"Does not hold: {fault}" in caplog.messages


def test_without_a_certificate_it_says_how_to_name_one(kedro_run, tmp_path):
    message = "^parameter certificate: name the file, --params certificate=FILE$"
    with pytest.raises(InputError, match=message):
        kedro_run(tmp_path, "verify")
