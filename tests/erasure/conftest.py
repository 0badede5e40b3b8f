"""A ledger of three requests, the model of the second, and its certificate."""

import hashlib
import os
from types import SimpleNamespace

import pytest

from closer_look.erasure.ledger import Ledger
from closer_look.erasure.statement import (
    Asked,
    Certificate,
    Done,
    LedgerEntry,
    Measurement,
    Model,
    Number,
    files_digest,
    not_proven,
)
from closer_look.erasure.verification import model_files

BASE, FIRST, SECOND, ROWS = (hashlib.sha256(name).hexdigest() for name in (b"0", b"1", b"2", b"r"))


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """On a busy disk each line would take a tenth of a second, and no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def certified(tmp_path):
    models = tmp_path / "erasure"
    folder = models / "model_2"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"weights")
    files = model_files(folder)

    ledger = Ledger(tmp_path / "reports" / "ledger.jsonl")
    ledger.append("served", request_id="r-1", model_before=BASE, model_after=FIRST)
    asked = {"request_id": "r-2", "rows_sha256": ROWS}
    switch = {"model_before": FIRST, "model_after": SECOND, "files_sha256": files_digest(files)}
    line = ledger.append("served", **asked, **switch, method="ME+GD", parameters={"epochs": 5})
    ledger.append("set_aside", request_id="r-3", reason="rows: there is none")

    certificate = Certificate(
        asked=Asked(
            **asked,
            received_at="2026-03-03T09:12:00+00:00",
            basis="GDPR, article 17 (1) b: consent withdrawn",
            n_rows=20,
            deadline="2026-04-02",
        ),
        done=Done(
            decision="served",
            reason="Forget efficacy and model utility pass the gate.",
            time=line.time,
            method="ME+GD",
            sentences=("It makes the model as unsure as can be of every word of the answers.",),
            parameters={"learning_rate": 5e-4, "epochs": 5},
            attempts=2,
            code_version="closer-look 0.1.0",
            purged=True,
        ),
        model=Model(before=FIRST, after=SECOND, folder=folder.name, files=files),
        measured=(
            Measurement(
                name="Forget efficacy",
                meaning="what is gone of this request's rows; more is better",
                n_rows=20,
                before=Number(value=0.08, low=0.05, high=0.12),
                after=Number(value=0.81, low=0.74, high=0.87),
                gate="at least 0.6",
            ),
            Measurement(
                name="Model utility",
                meaning="what is kept of other rows; more is better",
                n_rows=180,
                before=Number(value=0.91, low=0.88, high=0.93),
                after=Number(value=0.88),
            ),
        ),
        not_proven=not_proven("served", [], purged=True),
        ledger=LedgerEntry(index=line.index, sha256=line.sha256),
    )
    return SimpleNamespace(
        certificate=certificate, ledger=ledger, models=models, folder=folder, path=tmp_path
    )


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Two pairs of keys, in PEM: private.pem, public.pem, other_private.pem, other_public.pem."""
    crypto = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    pytest.importorskip("securesystemslib.dsse")
    from cryptography.hazmat.primitives import serialization as to

    folder = tmp_path_factory.mktemp("keys")
    pem = to.Encoding.PEM
    for name in ("", "other_"):
        key = crypto.Ed25519PrivateKey.generate()
        private = key.private_bytes(pem, to.PrivateFormat.PKCS8, to.NoEncryption())
        public = key.public_key().public_bytes(pem, to.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}private.pem").write_bytes(private)
        (folder / f"{name}public.pem").write_bytes(public)
    return folder
