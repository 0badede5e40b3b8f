"""A certified ledger of three requests, and a service whose training is played."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from closer_look.datasets.requests_dataset import RequestsDataset
from closer_look.datasets.served_models_dataset import ServedModels
from closer_look.erasure import serving
from closer_look.erasure.book import Book
from closer_look.erasure.candidates import Measured, Settings
from closer_look.erasure.chain import read_chain
from closer_look.erasure.inbox import read_inbox
from closer_look.erasure.ledger import Ledger
from closer_look.erasure.purge import purge
from closer_look.erasure.salt import read_salt
from closer_look.erasure.signing import read_envelope
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
    read_statement,
)
from closer_look.erasure.verification import model_files
from closer_look.models.language_model import model_fingerprint
from closer_look.parameters.attacks import StressParameters
from closer_look.parameters.erasure import ErasureParameters
from closer_look.parameters.evaluation import (
    GenerationParameters,
    JudgesParameters,
    MetricsParameters,
    ScoringParameters,
)
from closer_look.parameters.experiment import ForgetSetParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.pipelines.erasure.nodes import certify

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
            purged=False,
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
        not_proven=not_proven("served", [], purged=False),
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


GATE = {"method": "me_gd", "min_forget_efficacy": 0.6, "max_utility_loss": 0.1}


def number(value):
    return {"value": value, "low": value, "high": value, "n_rows": 2}


@dataclass
class Bench:
    """A service on a small model, whose training and evaluation take no time.

    What the model has forgotten stands in its configuration, so it is saved and read with it.
    """

    path: Path
    retained: pd.DataFrame
    methods: dict
    fails: Callable = lambda attempt, subjects: False
    utility: float = 0.9
    brings_back: dict = field(default_factory=dict)
    checks: Callable = lambda inbox: inbox
    trained: list = field(default_factory=list)

    @property
    def files(self):
        return RequestsDataset(path=str(self.path / "requests")).load()

    @property
    def ledger(self):
        return Ledger(self.path / "reports" / "ledger.jsonl")

    @property
    def models(self):
        return ServedModels(self.path / "models", str(self.path / "target"))

    @property
    def kinds(self):
        return [(line.request_id, line.kind) for line in self.ledger.lines()]

    @property
    def current(self):
        """The current model, which is whole, or loading it fails."""
        chain = read_chain(self.ledger.lines())
        return self.models.load(None if chain.current in (None, chain.first) else chain.current)

    def drop(self, request_id, file=None, **changes):
        subject = changes.pop("subject", f"Subject of {request_id}")
        rows = [
            {"question": f"Question {n} about {subject}?", "answer": f"Answer {n} on {subject}."}
            for n in (1, 2)
        ]
        request = {"request_id": request_id, "received_at": "2026-03-01", "basis": "consent"}
        request |= {"subjects": [subject], "rows": rows} | changes
        folder = self.path / "requests"
        folder.mkdir(exist_ok=True)
        text = json.dumps({name: one for name, one in request.items() if one is not None})
        (folder / f"{file or request_id}.json").write_text(text, encoding="utf-8")

    def serve(self, **parameters):
        lines = self.ledger.lines()
        salt = read_salt(self.models.folder, is_new=not lines)
        erasure = ErasureParameters.model_validate(GATE | parameters)
        settings = Settings(
            erasure,
            self.methods,
            UnlearningParameters(learning_rate=1e-3, epochs=3, batch_size=2, seed=1),
            ForgetSetParameters(evaluation_rows=2, seed=1),
            GenerationParameters(max_length=64, batch_size=4),
            ScoringParameters(batch_size=4),
            JudgesParameters(embedder="none", entailment=None),
            MetricsParameters(seed=1),
            {name: {"attack": name} for name in ("depth", "paraphrase")},
            StressParameters(seed=1),
        )
        book = Book(self.ledger, self.path / "results", salt)
        inbox = self.checks(read_inbox(self.files, read_chain(lines), salt))
        played = self.path / "checkpoints"
        service = serving.Service(
            book, self.models, played, self.retained, ["No."], settings, "test"
        )
        service.serve(inbox)
        if erasure.purge:
            purge(book, self.files, self.path)

    def certify(self):
        """Write the certificates that are missing, and return all by request."""
        folder = self.path / "certificates"
        book = Book(self.ledger, self.path / "results", read_salt(self.models.folder, is_new=False))
        certify(book, self.models, folder, ErasureParameters.model_validate(GATE))
        paths = sorted(folder.glob("*.json"))
        return {
            path.stem: read_statement(read_envelope(path.read_bytes()).payload) for path in paths
        }

    def unlearn(self, language_model, questions, refusals, attempt, settings, number, checkpoints):
        """Play a training."""
        model = language_model.model
        rows = questions[questions["task_id"] == 1]
        subjects = [*rows["subject"].unique()]
        self.trained.append((attempt, subjects, [*questions["row_id"]]))
        forgotten = {*getattr(model.config, "forgotten", [])}
        if not self.fails(attempt, subjects):
            forgotten |= {*subjects}
        for subject in subjects:
            forgotten -= {self.brings_back.get(subject)}
        model.config.forgotten = sorted(forgotten)
        with torch.no_grad():
            next(model.parameters()).add_(1e-3 * number)
        return language_model, pd.DataFrame({"step": [1]})

    def measure(self, language_model, rows, settings):
        """Play an evaluation: who is forgotten is not known."""
        forgotten = getattr(language_model.model.config, "forgotten", [])
        is_gone = rows["subject"].isin(forgotten) | rows["subject"].str.startswith("Nobody")
        of_task = is_gone[rows["task_id"] > 0].groupby(rows["task_id"]).mean()
        table = rows[["task_id", "row_id"]].assign(is_gone=is_gone)
        return Measured(
            number(self.utility if forgotten else 0.9),
            {task: number(0.1 + 0.8 * gone) for task, gone in of_task.items()},
            {task: number(1 - gone) for task, gone in of_task.items()},
            {"generations": rows[["task_id", "answer"]], "row_metrics": table},
        )

    def check(self):
        """Nothing is served twice, and the current model is the one that the ledger names."""
        chain = read_chain(self.ledger.lines())
        if chain.current:
            assert model_fingerprint(self.current) == chain.current
        served = [request_id for request_id, kind in self.kinds if kind == "served"]
        assert len({*served}) == len(served)
        return served


def play(monkeypatch, bench):
    """Let the service call the played training and evaluation."""
    monkeypatch.setattr(serving, "unlearn", bench.unlearn)
    monkeypatch.setattr(serving, "measure", bench.measure)
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def bench(tmp_path, monkeypatch, language_model, make_questions, shipped_methods):
    """A service whose training is played; see ``Bench``."""
    folder = tmp_path / "target"
    language_model.model.save_pretrained(folder)
    language_model.tokenizer.save_pretrained(folder)
    bench = Bench(tmp_path, make_questions(("retain", 0, 4)), shipped_methods)
    play(monkeypatch, bench)
    return bench
