"""The ledger: a file of JSON lines that only grows, and each of which holds the one before it.

A line's ``sha256`` is the hash of the line as it would be without this field, and ``previous`` is
the ``sha256`` of the line before, or 64 zeros in the first. So a line that is changed, missing or
in another place is found. Who can write the file can also make all hashes anew, or cut off its end:
what shows that is a certificate, which names the hash of its line.

The ledger decides: the model of the last line that names one is current. A line that was cut off,
as the process died or the disk was full, is no line; the next one begins on its own.

In a bucket the file is a folder with an object for each line, for stores cannot append.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator

from closer_look.erasure.statement import Sha256
from closer_look.errors import InputError
from closer_look.system.storage import is_url, opened, shown

FIRST = "0" * 64  # what the first line holds of the line before it
SWITCHING = ("served", "rolled_back")  # kinds of lines that make a model current

Kind = Literal["served", "failed", "not_known", "set_aside", "requeued", "rolled_back", "purged"]

log = logging.getLogger(__name__)


class Line(BaseModel):
    """A line: never the text of a row, never the name of a subject."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    index: PositiveInt
    """1, 2, 3, ..."""
    time: str
    kind: Kind
    request_id: str | None = None
    file_sha256: Sha256 | None = None
    """HMAC-SHA-256 of the request's file, by which it is known again."""
    rows_sha256: Sha256 | None = None
    """HMAC-SHA-256 of the rows."""
    reason: str | None = None
    """The decision in a sentence, or what is wrong with a request that is set aside."""
    model_before: Sha256 | None = None
    model_after: Sha256 | None = None
    """Hash of weights and vocabulary (``models.language_model.model_fingerprint``)."""
    files_sha256: Sha256 | None = None
    """Hash of the files of the model after it (``statement.files_digest``)."""
    method: str | None = None
    parameters: dict[str, Any] = {}
    attempts: tuple[dict[str, Any], ...] = ()
    """What was tried: settings, numbers, and why it was rejected."""
    numbers: dict[str, Any] = {}
    """What was measured ``before`` and ``after``: name -> value, bounds and number of rows."""
    rechecked: tuple[dict[str, Any], ...] = ()
    """Earlier requests whose rows were asked again, with their forget efficacy."""
    question_sha256: tuple[Sha256, ...] = ()
    subject_sha256: tuple[Sha256, ...] = ()
    """HMAC-SHA-256 of each question and subject: they are not to be trained again as rows to
    retain, though the request's file be deleted."""
    batch: tuple[str, ...] = ()
    """The requests that were served together, if there were several."""
    results: str | None = None
    """Name of the folder with the tables behind the numbers."""
    code_version: str | None = None
    previous: Sha256
    sha256: Sha256

    @model_validator(mode="after")
    def _names_a_model(self) -> Line:
        if (self.kind in SWITCHING) != (self.model_after is not None):
            raise ValueError(f"lines of kind {', '.join(SWITCHING)}, and no others, name a model")
        return self


class Ledger:
    """A ledger at its place. One process at a time may append: the lock of the run sees to it."""

    def __init__(self, place: Path | str) -> None:
        """Set up.

        Args:
            place: path of the file, or URL of the folder; it need not exist yet.
        """
        self.place = place
        self._read: tuple[object, list[Line]] = None, []  # stamp of the file, and what it held

    def lines(self) -> list[Line]:
        """Read all lines, oldest first.

        Raises:
            InputError: a line was changed, is missing or is in another place.
        """
        stamp = self._stamp()
        if stamp is None or stamp != self._read[0]:
            lines, faults = find_faults(self.written())
            if faults:
                raise InputError(
                    f"{shown(self.place)}: {faults[0]}; nothing is served on such a ledger: put "
                    f"back the file as it was written"
                )
            self._read = stamp, lines
        return [*self._read[1]]

    def _stamp(self) -> object:
        """Tell without reading whether the file is another one; None of a bucket."""
        if is_url(self.place) or not self.place.is_file():
            return None
        stat = self.place.stat()
        return stat.st_size, stat.st_mtime_ns

    def append(self, kind: Kind, **fields: Any) -> Line:
        """Append a line, which is on the disk when this returns.

        Args:
            kind: of the line.
            fields: others of ``Line``; index, time and hashes are set here.

        Raises:
            InputError: see ``lines``.
            OSError: the disk is full; the line does not count.
            ValueError: the fields make no line.
        """
        lines = self.lines()
        line = _sealed(
            index=len(lines) + 1,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            kind=kind,
            **fields,
            previous=lines[-1].sha256 if lines else FIRST,
        )
        if is_url(self.place):
            filesystem, folder = opened(self.place)
            name = f"{folder}/{line.index:08}.json"
            filesystem.pipe_file(name, _as_text(line), mode="create")
        else:
            _append(self.place, _as_text(line))
            self._read = self._stamp(), [*lines, line]
        return line

    def written(self) -> list[bytes]:
        """Read what stands in each line, unchecked."""
        if is_url(self.place):
            filesystem, folder = opened(self.place)
            objects = filesystem.find(folder)
            return [filesystem.cat_file(path) for path in sorted(objects)]
        if not self.place.is_file():
            return []
        return [line for line in self.place.read_bytes().split(b"\n") if line.strip()]


def current(lines: Iterable[Line]) -> Line | None:
    """Return the line that made a model current; None while the base model is."""
    return next((line for line in reversed([*lines]) if line.kind in SWITCHING), None)


def naming_files(lines: Iterable[Line], line: Line) -> Line | None:
    """Return the line that names the files of the model after a line; None if serving made none."""
    model = line.model_after or line.model_before
    earlier = (one for one in lines if one.index <= line.index)
    made = (one for one in earlier if one.model_after == model and one.files_sha256)
    return max(made, key=lambda one: one.index, default=None)


def find_faults(written: Iterable[bytes]) -> tuple[list[Line], list[str]]:
    """Read lines, and check them and their chain.

    Args:
        written: what stands in each line.

    Returns:
        The lines as they stand there, and a sentence for each fault.
    """
    lines: list[Line] = []
    faults = []
    for number, text in enumerate(written, start=1):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):  # if it was a whole line once, it is missing below
            log.warning("The ledger's line %d is cut off and does not count", number)
            continue
        try:
            line = Line.model_validate(fields)
        except ValidationError:
            faults.append(f"what stands as line {number} was changed: it is no line of a ledger")
            continue
        if text.strip() != _as_text(line) or line.sha256 != _hash(line):
            faults.append(f"line {line.index} was changed")
        lines.append(line)
    return lines, faults + _faults_of_order(lines)


def _faults_of_order(lines: list[Line]) -> list[str]:
    by_index = {line.index: line for line in lines}
    faults = [
        f"line {after.index} stands there twice"
        if after.index == before.index
        else f"line {after.index} stands after line {before.index}"
        for before, after in pairwise(lines)
        if after.index <= before.index
    ]
    missing = sorted({*range(1, max(by_index, default=0))} - by_index.keys())
    faults += [f"line {index} is missing" for index in missing]
    for index, line in sorted(by_index.items()):
        before = by_index[index - 1].sha256 if index - 1 in by_index else None
        if line.previous != (FIRST if index == 1 else before or line.previous):
            faults.append(
                f"line {index} does not follow the line before it: one of the two was replaced"
            )
    return faults


def _sealed(**fields: Any) -> Line:
    unsealed = Line(**fields, sha256=FIRST)
    return unsealed.model_copy(update={"sha256": _hash(unsealed)})


def _hash(line: Line) -> str:
    return hashlib.sha256(_as_text(line, without={"sha256"})).hexdigest()


def _as_text(line: Line, without: set[str] | None = None) -> bytes:
    fields = line.model_dump(exclude_defaults=True, exclude=without)
    return json.dumps(fields, allow_nan=False).encode()


def _append(path: Path, text: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        line = b"\n" + text  # the break also ends a line cut off before
        if os.write(file, line) < len(line):  # how a full disk begins
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    finally:
        os.close(file)
    if is_new and hasattr(os, "O_DIRECTORY"):  # the file's name is on the disk, too
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
