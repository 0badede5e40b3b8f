"""Deletion of what holds the texts of a request that is served, and a search for what else does."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from closer_look.erasure.inbox import read_inbox
from closer_look.system.storage import shown

if TYPE_CHECKING:
    from closer_look.erasure.book import Book
    from closer_look.erasure.requests import Checked

DONE = ("served", "not_known")
WEIGHTS = (".safetensors",)  # numbers: what a model knows is not text in its file
SHORTEST = 12  # characters: shorter texts are in other rows, too

log = logging.getLogger(__name__)


class Files(Protocol):
    """The requests' files; see ``datasets.requests_dataset``."""

    def remove(self, name: str) -> None:
        """Delete a file."""


def purge(book: Book, files: Files, data: Path | None) -> None:
    """Delete the rows of requests that are served, or that the model never knew.

    A process that is killed goes on with it in its next run.

    Args:
        book: the ledger and the results.
        files: the requests' files.
        data: folder of all artefacts, which is searched for the texts; None if it is a URL.
    """
    chain = book.chain()
    decided = read_inbox(files, chain, book.salt).decided
    purged = {line.request_id for line in book.lines() if line.kind == "purged"}
    for request_id, line in chain.decided.items():
        if line.kind not in DONE or (request_id in purged and request_id not in decided):
            continue
        one = decided.get(request_id)
        book.remove_texts()
        left: list[Path] = []
        if one is not None:
            files.remove(one.file)
            left = [*find_texts(data, _texts(one))] if data else []
        for path in left:
            log.warning("%s still holds texts of request %s", shown(path), request_id)
        reason = f"its file and the texts of its results are deleted; {_found(data, left)}"
        book.ledger.append("purged", request_id=request_id, reason=reason)
        log.info("Request %s is purged: %s", request_id, reason)


def find_texts(folder: Path, texts: Collection[str]) -> Iterator[Path]:
    """Find the files that hold one of some texts, in Parquet tables, too; weights are left out.

    Args:
        folder: searched with all folders in it.
        texts: to look for; those shorter than ``SHORTEST`` are not.
    """
    wanted = [text for text in texts if len(text) >= SHORTEST]
    written = {form.encode() for text in wanted for form in (text, json.dumps(text)[1:-1])}
    written |= {form.replace(b"/", rb"\/") for form in written}  # as pandas writes it
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in WEIGHTS:
            continue
        if path.suffix == ".parquet":
            content = pd.read_parquet(path).to_json(force_ascii=True).encode()
        else:
            content = path.read_bytes()
        if any(form in content for form in written):
            yield path


def _texts(one: Checked) -> set[str]:
    columns = ["question", "answer", "gold_answer", "reference_answer", "paraphrased_answer"]
    return {*one.rows()[columns].melt()["value"].dropna()}


def _found(data: Path | None, left: Collection[Path]) -> str:
    if data is None:
        return "other files were not searched"
    others = f"{len(left)} other files of the artefacts hold them, which the log names"
    return others if left else "no other file of the artefacts holds them"
