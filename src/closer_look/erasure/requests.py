"""Requests to forget: their schema, their faults, and what they have in common with other rows.

A request is a JSON file::

    {"request_id": "2026-017", "received_at": "2026-03-01", "basis": "withdrawn consent",
     "subjects": ["Ilse Marwood"],
     "rows": [{"question": "...", "answer": "...", "key_fact": "..."}],
     "passages": ["..."], "deadline": "2026-04-01"}

Rows have the columns of own data (see ``data.questions``). A passage becomes rows, too: each of its
sentences is the answer to the one before it, and the first one's second half to its first.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import pandas as pd
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from closer_look.data.questions import to_questions
from closer_look.errors import InputError, first_line

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
LINE_FAULTY = "rows.{number} is faulty"  # in the ledger, which never quotes a row


def _written(value: object) -> object:
    if not isinstance(value, str):  # a number would pass for seconds since 1970
        raise ValueError("must be a date or time, such as 2026-03-01")
    return value


def _in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


Time = Annotated[datetime, BeforeValidator(_written), AfterValidator(_in_utc)]
Text = Annotated[str, Field(min_length=1)]


class Request(BaseModel):
    """A request to forget, as it stands in its file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: Annotated[str, Field(pattern=r"^\w[\w.-]{0,99}$")]
    """Never the name of a person: ledger, certificates and folders hold it."""
    received_at: Time
    basis: Text
    """Why, in a few words, which certificates quote."""
    subjects: tuple[Text, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    passages: tuple[Text, ...] = ()
    deadline: Time | None = None


class Checked(NamedTuple):
    """A request's file, and what is wrong with it, if anything."""

    file: str
    """Its name, without the ending."""
    text: str
    request: Request | None = None
    questions: pd.DataFrame | None = None
    """The rows to forget, as in the questions table, of task 1."""
    faults: tuple[str, ...] = ()
    """For the log: they may quote rows."""
    reason: str = ""
    """The same for the ledger, which must not."""

    @property
    def request_id(self) -> str:
        """The request's ID; the file's name if it has none that is valid."""
        return self.file if self.request is None else self.request.request_id

    def rows(self) -> pd.DataFrame:
        """Return the rows, of a file that was checked in an earlier run, too."""
        if self.questions is None:
            return check_request(self.file, self.text).questions
        return self.questions


def check_request(file: str, text: str) -> Checked:
    """Read a request and check it.

    Args:
        file: name of its file, without the ending.
        text: content of the file.

    Returns:
        The request with its rows, or with its faults.
    """
    try:
        request = Request.model_validate(json.loads(text, object_pairs_hook=_named_once))
    except ValidationError as error:
        faults = tuple(map(_as_line, error.errors()))
        return Checked(file, text, faults=faults, reason="; ".join(faults))
    except (ValueError, RecursionError) as error:
        return Checked(file, text, faults=(first_line(error),), reason="the file is not valid JSON")
    rows = [*request.rows, *rows_of_passages(request.passages)]
    if not rows:
        empty = "it has neither rows nor passages: nothing says what to forget"
        return Checked(file, text, request, faults=(empty,), reason=empty)
    found = [*_faults_of_rows(rows)]
    if found:
        reasons, faults = zip(*found, strict=True)
        return Checked(file, text, request, faults=faults, reason="; ".join(reasons))
    return Checked(file, text, request, _questions(request, rows))


def rows_of_passages(passages: Iterable[str]) -> list[dict[str, str]]:
    """Cut passages into rows, whose answers are all of the text but its first words.

    The key fact of such a row is its whole answer: it counts as known if the model says it word
    for word.
    """
    rows = []
    for passage in passages:
        first, *rest = SENTENCE_END.split(passage.strip())
        words = first.split()
        half = (len(words) + 1) // 2
        parts = [" ".join(words[:half]), " ".join(words[half:])] if words[half:] else []
        pairs = [parts] if parts else []
        pairs += zip([first, *rest], rest, strict=False)
        rows += [{"question": asked, "answer": said, "key_fact": said} for asked, said in pairs]
        if not pairs:
            rows.append({"question": passage, "answer": ""})  # a fault: there is nothing to forget
    return rows


def in_conflict(
    questions: pd.DataFrame, subjects: Collection[str], retained: pd.DataFrame
) -> pd.Series:
    """Find the rows to retain that ask what a request is to forget, or that are of its subject.

    Args:
        questions: rows to forget.
        subjects: named by the request, in addition to those of its rows.
        retained: rows to retain.

    Returns:
        (N,) booleans, with the index of ``retained``.
    """
    named = {normalised(subject) for subject in [*subjects, *questions["subject"].dropna()]}
    asked = {normalised(question) for question in questions["question"]}
    return retained["question"].map(normalised).isin(asked) | retained["subject"].map(
        normalised, na_action="ignore"
    ).isin(named)


def normalised(text: str) -> str:
    """Return a text without differences of case and of spaces."""
    return " ".join(text.casefold().split())


def salted(text: str, salt: bytes) -> str:
    """Hash a text so that nobody without the salt can try others against it (HMAC-SHA-256)."""
    return hmac.new(salt, text.encode(), hashlib.sha256).hexdigest()


def rows_hash(questions: pd.DataFrame, salt: bytes) -> str:
    """Hash all rows of a request to one HMAC-SHA-256, whatever their order."""
    rows = sorted(map(list, questions[["question", "answer"]].itertuples(index=False)))
    return salted(json.dumps(rows), salt)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len({*names}) < len(names):
        raise ValueError("a field is there twice: one of its values would be lost")
    return dict(pairs)


def _as_line(fault: Mapping[str, Any]) -> str:
    """Say what is wrong where; what the file itself calls a field may be a person's name."""
    place = [str(part) for part in fault["loc"]]
    if fault["type"] == "extra_forbidden":
        return f"there is a field that is none of {', '.join(Request.model_fields)}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{'.'.join(place)}: {message}" if place else message


def _faults_of_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield a sentence for the ledger and one for the log of each faulty row."""
    for number, row in enumerate(rows, start=1):
        try:
            to_questions([row], "forget", f"rows.{number}")
        except InputError as error:
            yield LINE_FAULTY.format(number=number), error.message


def _questions(request: Request, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    subject = request.subjects[0] if len(request.subjects) == 1 else None
    named = [
        {"subject": subject}
        | {name: value for name, value in row.items() if name != "task_id"}
        | {"row_id": f"{request.request_id}-{number:04d}"}
        for number, row in enumerate(rows, start=1)
    ]
    return to_questions(named, "forget", request.request_id)
