"""Whether a certificate holds: its signature, its line of the ledger, and the model's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import fsspec

from closer_look.erasure.ledger import Ledger, Line, current, find_faults, naming_files
from closer_look.erasure.signing import Envelope, check_signature, read_envelope
from closer_look.erasure.statement import Certificate, files_digest, read_statement
from closer_look.errors import InputError
from closer_look.models.model_folder import ADAPTERS
from closer_look.system import whole_folders
from closer_look.system.fingerprints import file_sha256
from closer_look.system.storage import is_url, shown

SAME = {  # what a certificate and its line of the ledger both hold
    "request_id": lambda certificate: certificate.asked.request_id,
    "rows_sha256": lambda certificate: certificate.asked.rows_sha256,
    "kind": lambda certificate: certificate.done.decision,
    "model_before": lambda certificate: certificate.model.before,
}


class Verification(NamedTuple):
    """What was looked at, a sentence each."""

    holds: list[str]
    notes: list[str]
    """What a reader should know, and what could not be looked at."""
    faults: list[str]


def verify(path: str, key: str | None, ledger: Ledger, models: Path | str) -> Verification:
    """Check a certificate against a key, the ledger and the folder of models.

    Args:
        path: file of the certificate, or its URL.
        key: path of the public key, in PEM; None if there is none to check with.
        ledger: that should hold the decision.
        models: folder of the models that serving has made, or its URL.

    Raises:
        InputError: the file cannot be read as a certificate, or the key cannot be used.
    """
    found = Verification([], [], [])
    envelope = read_envelope(_read(path))
    certificate = read_statement(envelope.payload)
    _check_signature(envelope, key, found)
    is_named = _check_ledger(certificate, ledger, found)
    _check_model(certificate, models, is_named, found)
    return found


def model_files(folder: Path | str) -> dict[str, str]:
    """Hash the files of a model's folder, or of its URL: name -> SHA-256; none if it is gone."""
    try:
        local = whole_folders.fetch(folder) if is_url(folder) else Path(folder)
    except FileNotFoundError:
        return {}
    paths = sorted(path for path in local.rglob("*") if path.is_file())
    return {path.relative_to(local).as_posix(): file_sha256(path) for path in paths}


def _read(path: str) -> bytes:
    try:
        with fsspec.open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{path} is missing: name a certificate, certificate=FILE") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from None


def _check_signature(envelope: Envelope, key: str | None, found: Verification) -> None:
    if key is not None:
        try:
            found.holds.append(f"signed with the key {check_signature(envelope, key)[:16]}")
        except InputError as fault:
            if fault.message.startswith("parameter "):  # of the key itself
                raise
            found.faults.append(fault.message)
    elif envelope.key_ids:
        found.notes.append(
            f"the signature was not checked: give the public key of {envelope.key_ids[0][:16]}, "
            f"erasure.key=PUBLIC_KEY"
        )
    else:
        found.notes.append(
            "the certificate is not signed: whoever can write the file can have made it"
        )


def _check_ledger(certificate: Certificate, ledger: Ledger, found: Verification) -> bool:
    """Look for the line of a certificate; tell whether the ledger names the model's files."""
    lines, faults = find_faults(ledger.written())
    found.faults.extend(f"the ledger: {fault}" for fault in faults)
    place = certificate.ledger
    line = next((line for line in lines if line.index == place.index), None)
    if line is None:
        found.faults.append(
            f"the ledger: the certificate's line {place.index} is not in {shown(ledger.place)}"
        )
    elif line.sha256 != place.sha256:
        found.faults.append(
            f"the ledger: line {place.index} is not the certificate's: the line was replaced, or "
            f"{shown(ledger.place)} is another ledger"
        )
    else:
        others = [*_contradictions(certificate, line, lines)]
        found.faults.extend(others)
        if not faults and not others:
            found.holds.append(f"line {place.index} of {len(lines)} of the ledger, unbroken")
        found.notes.extend(_since(certificate, lines))
        return naming_files(lines, line) is not None
    return False


def _contradictions(certificate: Certificate, line: Line, lines: list[Line]) -> Iterator[str]:
    for name, of in SAME.items():
        if getattr(line, name) != of(certificate):
            yield f"the certificate has another {name} than line {line.index} of the ledger"
    model = certificate.model
    if model.after != (line.model_after or line.model_before):
        yield f"the certificate has another model_after than line {line.index} of the ledger"
    made = naming_files(lines, line)
    if made and made.files_sha256 != files_digest(model.files):
        yield f"the certificate has other files of the model than line {made.index} of the ledger"
    later = {(one.kind, one.request_id) for one in lines if one.index > line.index}
    if certificate.done.purged and ("purged", line.request_id) not in later:
        yield "the certificate says that the rows are deleted, and no later line of the ledger does"


def _since(certificate: Certificate, lines: list[Line]) -> Iterator[str]:
    """Say what later lines change of what the certificate says."""
    last = current(lines)
    if last is not None and last.model_after != certificate.model.after:
        yield f"another model is current, that of line {last.index} ({last.kind})"
    for line in lines:
        is_later = line.index > certificate.ledger.index
        if is_later and line.request_id == certificate.asked.request_id:
            yield f"line {line.index} is about the same request ({line.kind})"


def _check_model(
    certificate: Certificate, models: Path | str, is_named: bool, found: Verification
) -> None:
    model = certificate.model
    if model.folder is None:
        found.notes.append(
            "the model's files were not checked: the certificate names no folder of serving's"
        )
        return
    folder = f"{models}/{model.folder}" if is_url(models) else models / model.folder
    present = model_files(folder)
    if not present:
        found.faults.append(f"the model: {shown(folder)} is missing")
        return
    faults = [
        f"the model: {name} {what}"
        for name in sorted(present.keys() | model.files.keys())
        if (what := _difference(present.get(name), model.files.get(name)))
    ]
    found.faults.extend(faults)
    if not faults and is_named:
        found.holds.append(f"{len(present)} files of the model, as certified")
    elif not faults:
        found.notes.append(
            f"{len(present)} files of the model are as certified, but the ledger does not name them"
        )
    if ADAPTERS in present:
        found.notes.append("the base model was not checked: the model's files are its adapters")


def _difference(present: str | None, certified: str | None) -> str | None:
    if present == certified:
        return None
    if present is None:
        return "is missing"
    return "was added" if certified is None else "was changed"
