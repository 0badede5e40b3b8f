"""What a certificate says, and its form: a statement of the in-toto attestation framework.

The statement is about the files of one model, each by its SHA-256. The rest is the predicate, whose
fields are those of ``Certificate``. See
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from closer_look.errors import InputError, listed

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:closer-look:erasure-certificate:v1"
VERIFY = "kedro run --pipelines verify --params certificate=FILE,erasure.key=PUBLIC_KEY"
"""The command that checks a certificate."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FolderName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]


Decision = Literal["served", "not_known", "failed"]
"""The model was trained to forget and accepted; it knew nothing of the rows, so nothing was
trained; no attempt passed the gate, so the model stays as it was."""


class Part(BaseModel):
    """A part of a certificate: frozen, without unknown names, and without numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Number(Part):
    """A measured number with its 95 % interval; some have none."""

    value: float
    low: float | None = None
    high: float | None = None


class Measurement(Part):
    """A number that was measured on the model before the request was served, and on that after."""

    name: str
    """As a reader knows it, such as "Forget efficacy"."""
    meaning: str
    """Of which rows, and what is good: "what is gone of this request's rows; more is better"."""
    n_rows: int | None = None
    """How many rows were asked."""
    before: Number | None = None
    after: Number
    gate: str | None = None
    """What the number had to be, such as "at least 0.6"; None if nothing hung on it."""


class Asked(Part):
    """The request, without its rows."""

    request_id: str
    received_at: str
    basis: str
    """Why, in the words of the request."""
    n_rows: int
    rows_sha256: Sha256
    """Salted, as in the ledger: without the salt, nobody can try texts against it."""
    deadline: str | None = None


class Done(Part):
    """What was done about it."""

    decision: Decision
    reason: str
    """The sentence of the gate."""
    time: str
    method: str | None = None
    """Its label; None if nothing was trained."""
    sentences: tuple[str, ...] = ()
    """How the method works."""
    parameters: dict[str, Any] = {}
    """Those of the last attempt."""
    attempts: int = 0
    code_version: str
    purged: bool
    """Whether the request's file and the answers of its serving were deleted."""


class Model(Part):
    """The model that the certificate is about: the one that serves after the decision."""

    before: Sha256
    """Hash of weights and vocabulary (``models.language_model.model_fingerprint``), as ledger."""
    after: Sha256
    """The same, of this model; equal to ``before`` if the model stays."""
    folder: FolderName | None = None
    """Its name in the folder of models; None for a model that serving has not made."""
    files: dict[str, Sha256] = Field(min_length=1)
    """SHA-256 of every file in the model's folder, by its name there."""


class LedgerEntry(Part):
    """The line of the ledger that holds the decision."""

    index: int
    sha256: Sha256


class Certificate(Part):
    """What is certified of one request."""

    asked: Asked
    done: Done
    model: Model
    measured: tuple[Measurement, ...]
    not_proven: tuple[str, ...]
    """See ``not_proven``."""
    ledger: LedgerEntry
    how_to_verify: str = VERIFY


def not_proven(decision: Decision, attacks: Collection[str], *, purged: bool) -> tuple[str, ...]:
    """Say what a certificate does not prove.

    Args:
        decision: what was decided.
        attacks: labels of the attacks that were run on this request's rows.
        purged: whether the rows were deleted.
    """
    trained = (
        "The weights were changed by training. They are not shown to be those of a model that "
        "never saw the rows, and traces of the rows may remain in them."
        if decision == "served"
        else "The weights are as they were; what they hold of the rows, they still hold."
    )
    kept = (
        "The request's file and the answers of its serving were deleted, and nothing else: neither "
        "backups, nor the source of the rows, nor the disk's unused blocks. The ledger says "
        "whether other files of the artefacts hold the rows' texts."
        if purged
        else "The request's rows are still kept with the run (erasure.purge was off)."
    )
    attacked = (
        f"These attacks were run: {listed([*attacks])}. Others, and stronger ones, were not."
        if attacks
        else "No attack was run: relearning from a few rows, quantisation, hints in the prompt or "
        "a look into the model's inner states may bring back what plain questions do not."
    )
    return (
        f"Exact deletion. {trained}",
        "Other questions. Only the questions that are counted here were asked; what was to be "
        "forgotten may come up in answers to others, in other words or in another language.",
        f"Resistance to attacks. {attacked}",
        f"Deletion of the data. {kept}",
        "Other models. Earlier models of the ledger, and copies of them, know what they knew.",
        "Who asked, and with what right. The request was taken as it came.",
        "The time. It is that of the clock of the machine, which nobody else attests.",
        "Conformity with a law. What was measured is stated; whether it is enough is not.",
    )


def files_digest(files: Mapping[str, str]) -> str:
    """Hash the names and hashes of a model's files to one SHA-256, for the ledger.

    It is the hash of what ``sha256sum`` prints for the files in the order of their names.
    """
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def write_statement(certificate: Certificate) -> bytes:
    """Write a certificate as an in-toto statement in JSON.

    Raises:
        ValueError: a parameter is no number in JSON, such as NaN.
    """
    subject = [
        {"name": name, "digest": {"sha256": sha256}}
        for name, sha256 in sorted(certificate.model.files.items())
    ]
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": subject,
        "predicateType": PREDICATE_TYPE,
        "predicate": certificate.model_dump(),
    }
    return json.dumps(statement, indent=2, allow_nan=False).encode()


def read_statement(payload: bytes) -> Certificate:
    """Read a certificate from its statement.

    Raises:
        InputError: it is no statement of this kind, or its subject is not the model's files.
    """
    try:
        statement = json.loads(payload)
        kinds = statement["_type"], statement["predicateType"]
        certificate = Certificate.model_validate(statement["predicate"])
        subject = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise InputError(f"the certificate cannot be read ({place}: {fault['msg']})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError("the certificate holds no statement about a request to forget") from None
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise InputError(f"the certificate is a statement of another kind ({kinds[1]})")
    if subject != certificate.model.files:
        raise InputError("the certificate's subject is not the model that it describes")
    return certificate
