"""Certificates of decisions, filled from the ledger and from what is kept beside the results."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from closer_look.erasure.chain import DECIDING, purged_requests, read_chain
from closer_look.erasure.ledger import naming_files
from closer_look.erasure.signing import read_envelope, sign
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
    write_statement,
)
from closer_look.erasure.verification import model_files
from closer_look.parameters.methods import MethodParameters
from closer_look.reporting.method_sentences import describe_method
from closer_look.system.storage import name_of, read_if_there, shown

if TYPE_CHECKING:
    from closer_look.erasure.book import Book
    from closer_look.erasure.ledger import Line
    from closer_look.erasure.signing import Envelope

MEASURED = {
    "forget_efficacy": (
        "Forget efficacy",
        "what is gone of this request's rows; more is better",
        "at least {min_forget_efficacy:g}",
    ),
    "known": (
        "Known rows",
        "share of this request's rows that the model answers correctly; less is better",
        None,
    ),
    "model_utility": (
        "Model utility",
        "what is kept of other rows; more is better",
        "a loss of at most {max_utility_loss:g}",
    ),
    "residual_knowledge": (
        "Residual knowledge",
        "the most that an attack got back of what was known; less is better",
        "at most {max_residual_knowledge:g}",
    ),
}
"""Number in the ledger -> name, meaning, and the bound of the gate."""

log = logging.getLogger(__name__)


class Folders(Protocol):
    """Where models are; see ``datasets.served_models_dataset``."""

    first: str

    def place(self, sha256: str) -> Path | str:
        """Return the folder of a model, or its URL."""


def fill_certificate(
    book: Book, line: Line, models: Folders, earlier: Certificate | None
) -> Certificate | None:
    """Fill the certificate of a decision.

    Args:
        book: the ledger and the results.
        line: of the decision.
        models: says where the model is.
        earlier: certificate of the request, which names the model's files if they are deleted.

    Returns:
        The certificate; None if the model's files are deleted and nothing names them.
    """
    lines = book.lines()
    is_purged = line.request_id in purged_requests(lines)
    after = line.model_after or line.model_before
    is_first = after == read_chain(lines).first
    folder = models.first if is_first else models.place(after)
    made = naming_files(lines, line)
    for files in (model_files(folder), earlier.model.files if earlier else {}):
        if files and (made is None or made.files_sha256 == files_digest(files)):
            break
    else:
        lost = f"{shown(folder)} no longer holds the files that the ledger names"
        log.warning("Request %s gets no certificate: %s", line.request_id, lost)
        return None
    return Certificate(
        asked=Asked(request_id=line.request_id, rows_sha256=line.rows_sha256, **book.asked(line)),
        done=_done(line, is_purged=is_purged),
        model=Model(
            before=line.model_before,
            after=after,
            folder=None if is_first else name_of(folder),
            files=files,
        ),
        measured=tuple(_measured(line)),
        not_proven=not_proven(line.kind, _attacks(line), purged=is_purged),
        ledger=LedgerEntry(index=line.index, sha256=line.sha256),
    )


def missing_certificates(
    book: Book, models: Folders, folder: Path | str, key: str | None
) -> Iterator[tuple[str, Envelope]]:
    """Make the certificates of last decisions, but for those there, or of models that are gone.

    Args:
        book: the ledger and the results.
        models: says where the models are.
        folder: of the certificates, or its URL.
        key: signs them, if there is one.

    Yields:
        The request and its certificate.
    """
    lines = book.lines()
    purged = purged_requests(lines)
    for request_id, line in {one.request_id: one for one in lines if one.kind in DECIDING}.items():
        present, earlier = read_if_there(f"{folder}/{request_id}.json"), None
        if present is not None:
            earlier = read_statement(read_envelope(present).payload)
            is_same = earlier.ledger.sha256 == line.sha256
            if is_same and earlier.done.purged == (request_id in purged):
                continue
        certificate = fill_certificate(book, line, models, earlier)
        if certificate:
            yield request_id, sign(write_statement(certificate), key)


def _done(line: Line, *, is_purged: bool) -> Done:
    method = line.parameters.get("method")
    sentences = describe_method(MethodParameters.model_validate(method)) if method else []
    return Done(
        decision=line.kind,
        reason=line.reason,
        time=line.time,
        method=line.method,
        sentences=tuple(sentences),
        parameters=line.parameters.get("unlearning", {}),
        attempts=len(line.attempts),
        code_version=line.code_version,
        purged=is_purged,
    )


def _after(line: Line) -> dict[str, Any] | None:
    """Return the numbers of the last candidate; None if nothing was trained."""
    if "after" not in line.numbers and line.attempts:  # the last attempt, which was rejected
        return line.attempts[-1]["numbers"][line.request_id]
    return line.numbers.get("after")


def _attacks(line: Line) -> list[str]:
    """List the attacks on the last candidate."""
    return ((_after(line) or {}).get("residual_knowledge") or {}).get("attacks", [])


def _measured(line: Line) -> Iterator[Measurement]:
    before = line.numbers["before"]
    after = _after(line)
    for name, (label, meaning, gate) in MEASURED.items():
        present = (after or before).get(name)
        if not present or "value" not in present:
            continue
        bounds = line.parameters["gate"]
        is_bound = gate is not None and after is not None and gate.split("{")[1][:-3] in bounds
        yield Measurement(
            name=label,
            meaning=meaning,
            n_rows=present["n_rows"],
            before=_number(before.get(name)),
            after=_number(present),
            gate=gate.format(**bounds) if is_bound else None,
        )


def _number(number: Mapping[str, Any] | None) -> Number | None:
    if number is None:
        return None
    return Number(**{name: number.get(name) for name in ("value", "low", "high")})
