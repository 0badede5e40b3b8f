"""What serving writes down: lines of the ledger, and the tables behind their numbers.

The tables are on the disk before the line that names them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec
import pandas as pd

from closer_look.erasure.chain import Chain, read_chain
from closer_look.erasure.ledger import Ledger, Line
from closer_look.erasure.requests import Checked, normalised, rows_hash, salted
from closer_look.system.storage import opened, write

DECISION = "decision.json"
GENERATIONS = "generations"
"""The table that holds texts; the others hold numbers of rows."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Book:
    """The ledger and the folder of results.

    Attributes:
        ledger: decides what is served, and which model is current.
        results: folder, or its URL.
        salt: of the hashes.
    """

    ledger: Ledger
    results: Path | str
    salt: bytes

    def lines(self) -> list[Line]:
        """Read the ledger."""
        return self.ledger.lines()

    def chain(self) -> Chain:
        """Return the state that the ledger leads to."""
        return read_chain(self.ledger.lines())

    def next_folder(self) -> str:
        """Name the folder of results of the next line."""
        return f"{len(self.ledger.lines()) + 1:05d}"

    def keep(self, folder: str, tables: Mapping[str, pd.DataFrame]) -> None:
        """Save tables; those of an attempt that was killed are replaced."""
        for name, table in tables.items():
            self._write(folder, f"{name}.parquet", table.to_parquet(index=False))

    def decide(
        self, kind: Literal["failed", "not_known"], one: Checked, fields: Mapping[str, Any]
    ) -> None:
        """Append the decision about a request that makes no model current."""
        self._keep_asked(one, fields["results"])
        line = self.ledger.append(kind, **self._of(one), **fields)
        log.warning("Request %s: %s (%s)", one.request_id, kind.replace("_", " "), line.reason)

    def serve(
        self,
        group: Sequence[Checked],
        own: Mapping[str, Mapping[str, Any]],
        fields: Mapping[str, Any],
    ) -> None:
        """Append a line for each request that was served; the first makes the new model current.

        Args:
            group: the requests.
            own: fields of each line, by request.
            fields: what they share.
        """
        for one in group:
            self._keep_asked(one, fields["results"])
        batch = tuple(one.request_id for one in group) if len(group) > 1 else ()
        lines = [self._of(one) | fields | own[one.request_id] | {"batch": batch} for one in group]
        self._write(fields["results"], DECISION, json.dumps(lines).encode())
        self._append_served(lines)

    def _keep_asked(self, one: Checked, folder: str) -> None:
        """Save what certificates say of a request, which outlives its rows."""
        asked = one.request.model_dump(mode="json", include={"received_at", "basis", "deadline"})
        content = json.dumps(asked | {"n_rows": len(one.questions)}).encode()
        self._write(folder, f"{one.request_id}.asked.json", content)

    def asked(self, line: Line) -> dict[str, Any]:
        """Read what was saved of a request beside its rows."""
        return self._read(line.results, f"{line.request_id}.asked.json")

    def remove_texts(self) -> None:
        """Delete the texts among the results, also of attempts that were killed."""
        filesystem, place = opened(str(self.results))
        for path in filesystem.find(place):
            if path.endswith(f"/{GENERATIONS}.parquet"):
                filesystem.rm(path)

    def finish_batch(self) -> None:
        """Append what a process was killed before: the other lines of requests served together."""
        lines = self.ledger.lines()
        if not lines or not lines[-1].batch:
            return
        done = {line.request_id for line in lines if line.results == lines[-1].results}
        decided = self._read(lines[-1].results, DECISION)
        self._append_served([line for line in decided if line["request_id"] not in done])

    def _append_served(self, lines: Sequence[Mapping[str, Any]]) -> None:
        for line in lines:
            self.ledger.append("served", **line)
            log.info("Request %s is served", line["request_id"])

    def requeue(self) -> None:
        """Queue requests again whose rows came back, as the last line of a served one tells."""
        lines = self.ledger.lines()
        served = next((line for line in reversed(lines) if line.kind == "served"), None)
        later = lines[served.index :] if served else []
        noted = {line.request_id for line in later if line.kind == "requeued"}
        for one in served.rechecked if served else ():
            if one["came_back"] and one["request_id"] not in noted:
                efficacy = one["forget_efficacy"]["value"]
                reason = f"after line {served.index}, its forget efficacy is only {efficacy:.3f}"
                self.ledger.append("requeued", request_id=one["request_id"], reason=reason)
                log.warning("Request %s is queued again: %s", one["request_id"], reason)

    def set_aside(self, faulty: Sequence[Checked]) -> None:
        """Note faulty requests in the ledger, each fault once, and log them in each run."""
        noted = {
            (line.request_id, line.file_sha256, line.reason)
            for line in self.ledger.lines()
            if line.kind == "set_aside"
        }
        for one in faulty:
            for fault in one.faults:
                log.warning("Request %s is set aside: %s", one.request_id, fault)
            request_id, file_sha256 = one.request_id, salted(one.text, self.salt)
            if (request_id, file_sha256, one.reason) not in noted:
                self.ledger.append(
                    "set_aside", request_id=request_id, file_sha256=file_sha256, reason=one.reason
                )

    def _of(self, one: Checked) -> dict[str, Any]:
        """Return what a line holds of the request itself: hashes alone."""
        questions = one.questions
        subjects = {*one.request.subjects, *questions["subject"].dropna()}
        return {
            "request_id": one.request_id,
            "file_sha256": salted(one.text, self.salt),
            "rows_sha256": rows_hash(questions, self.salt),
            "question_sha256": self.hashes(questions["question"]),
            "subject_sha256": self.hashes(subjects),
        }

    def hashes(self, texts: Sequence[str] | set[str] | pd.Series) -> list[str]:
        """Hash texts, each once, whatever their case and spaces."""
        return sorted({salted(normalised(text), self.salt) for text in texts})

    def _write(self, folder: str, name: str, content: bytes) -> None:
        write(f"{self.results}/{folder}/{name}", content)

    def _read(self, folder: str, name: str) -> Any:
        with fsspec.open(f"{self.results}/{folder}/{name}", "rb") as file:
            return json.load(file)
