"""The folder of requests against the ledger: what is new, what is decided, what is faulty."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from closer_look.data.questions import given_texts
from closer_look.erasure.chain import Chain
from closer_look.erasure.requests import Checked, check_request, rows_hash, salted
from closer_look.errors import InputError, first_line

if TYPE_CHECKING:
    from closer_look.models.language_model import LanguageModel
    from closer_look.parameters.evaluation import GenerationParameters, JudgesParameters

UNREADABLE = "the file cannot be read as text in UTF-8"
UNFIT = "a row is too long for the model, or has no key_fact, which judges.entailment asks for"

log = logging.getLogger(__name__)


class Inbox(NamedTuple):
    """The files of the folder."""

    new: list[Checked]
    """Requests that are not decided, or failed, the oldest first."""
    faulty: list[Checked]
    decided: dict[str, Checked]
    """Request -> its file, unchecked if it is as it was: it was checked before it was decided."""


def read_inbox(files: Mapping[str, Callable[[], str]], chain: Chain, salt: bytes) -> Inbox:
    """Read the requests, and check those that the ledger has not decided.

    Args:
        files: name -> a function that reads the text.
        chain: the state of the ledger.
        salt: see ``salt.read_salt``.
    """
    by_file = {line.file_sha256: line for line in chain.decided.values() if line.kind != "failed"}
    decided, read, faulty = {}, [], []
    for name, load in sorted(files.items()):
        try:
            text = load()
        except Exception as error:  # Kedro wraps what reading raises
            faulty.append(Checked(name, "", faults=(first_line(error),), reason=UNREADABLE))
            continue
        line = by_file.get(salted(text, salt))
        if line:
            decided[line.request_id] = Checked(name, text)
        else:
            checked = check_request(name, text)
            (faulty if checked.faults else read).append(checked)
    new: dict[str, Checked] = {}
    read.sort(key=lambda one: (one.request.received_at, one.file))
    for one in read:
        fault = _fault_of_id(one, new, decided, chain, salt)
        name = one.request_id
        line = chain.decided.get(name)
        if fault:
            faulty.append(one._replace(faults=(fault,), reason=fault))
        elif line and line.kind != "failed":
            decided[name] = one
            log.info("Request %s is decided; what else its file says now changes it no more", name)
        else:
            new[name] = one
    return Inbox([*new.values()], faulty, decided)


def _fault_of_id(
    one: Checked,
    new: Mapping[str, Checked],
    decided: Mapping[str, Checked],
    chain: Chain,
    salt: bytes,
) -> str | None:
    """Say why a request cannot have its ID."""
    if one.request_id in new or one.request_id in decided:
        return "another file has a request of this request_id; each needs one of its own"
    line = chain.decided.get(one.request_id)
    if line and line.rows_sha256 != rows_hash(one.questions, salt):
        return (
            f"line {line.index} of the ledger has decided about other rows under this "
            f"request_id; give it another one"
        )
    return None


def check_texts(
    inbox: Inbox,
    language_model: LanguageModel,
    generation: GenerationParameters,
    judges: JudgesParameters,
) -> Inbox:
    """Find the requests whose rows the model or the judges cannot read.

    Args:
        inbox: from ``read_inbox``.
        language_model: the model before all requests; those after it read the same.
        generation: how long an answer may be.
        judges: of the answers.
    """
    from closer_look.evaluation.judges import check_judges
    from closer_look.models.readiness import check_generation, check_rows

    new, faulty = [], [*inbox.faulty]
    for one in inbox.new:
        rows = one.questions
        try:
            check_judges(rows, judges.embedder, judges.entailment)
            check_rows(language_model, given_texts(rows))
            gold = rows.rename(columns={"gold_answer": "text"})
            check_generation(language_model, gold, generation.max_length)
        except InputError as error:
            fault = error.message
            faulty.append(one._replace(faults=(fault,), reason=UNFIT))
        else:
            new.append(one)
    return Inbox(new, faulty, inbox.decided)
