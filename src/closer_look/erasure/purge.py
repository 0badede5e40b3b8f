"""Deletion of what holds the texts of a request that is served, and a search for what else does."""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from closer_look.erasure.chain import purged_requests
from closer_look.erasure.inbox import read_inbox
from closer_look.errors import first_line
from closer_look.system.storage import shown

if TYPE_CHECKING:
    from closer_look.erasure.book import Book
    from closer_look.erasure.requests import Checked

DONE = ("served", "not_known")
WEIGHTS = (".safetensors",)  # numbers: what a model knows is not text in its file
TAG = re.compile("<[^>]*>")
SHORTEST = 12  # characters: shorter texts are in other rows, too
NO_FILE = (
    "the texts of its results are deleted; no file of it was there any more, so nothing was "
    "searched for its rows"
)

log = logging.getLogger(__name__)


class Files(Protocol):
    """The requests' files; see ``datasets.requests_dataset``."""

    def remove(self, name: str) -> None:
        """Delete a file."""


def purge(book: Book, files: Files, data: Path | None) -> None:
    """Delete the rows of requests that are served, or that the model never knew.

    The search comes before the deletion: the next run goes on with what a killed one has begun, and
    its line says that nothing was searched if the file is no longer there to say what for.

    Args:
        book: the ledger and the results.
        files: the requests' files.
        data: folder of all artefacts, which is searched for the texts; None if it is a URL.
    """
    chain = book.chain()
    inbox = read_inbox(files, chain, book.salt)
    over = purged_requests(book.lines())
    over |= {one.request_id for one in inbox.faulty}  # whose files are there: they are to be mended
    for request_id, line in chain.decided.items():
        one = inbox.decided.get(request_id)
        if line.kind not in DONE or (one is None and request_id in over):
            continue
        book.remove_texts()
        if one is None:
            reason = NO_FILE
        else:
            unread: list[Path] = []
            found = [*find_texts(data, _texts(one), unread.append)] if data else []
            files.remove(one.file)
            left = [path for path in found if path.exists()]  # all but its own
            for path in left:
                log.warning("%s still holds texts of request %s", shown(path), request_id)
            reason = "its file and the texts of its results are deleted; "
            reason += _found(left, unread) if data else "other files were not searched"
        book.ledger.append("purged", request_id=request_id, reason=reason)
        log.info("Request %s is purged: %s", request_id, reason)


def find_texts(
    folder: Path, texts: Collection[str], on_error: Callable[[Path], object] = lambda path: None
) -> Iterator[Path]:
    """Find the files that hold one of some texts, in Parquet tables, too; weights are left out.

    Args:
        folder: searched with all folders in it.
        texts: to look for; those shorter than ``SHORTEST`` are not.
        on_error: is told of each file that cannot be read.
    """
    wanted = [text for text in texts if len(text) >= SHORTEST]
    written = {form.encode() for text in wanted for form in (text, json.dumps(text)[1:-1])}
    written |= {form.replace(b"/", rb"\/") for form in written}  # as pandas writes it
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in WEIGHTS:
            continue
        try:
            content = _content(path)
        except FileNotFoundError:  # another run has removed it
            continue
        except Exception as error:  # of a damaged table, libraries raise this and that
            log.warning("%s could not be searched (%s)", shown(path), first_line(error))
            on_error(path)
            continue
        if any(form in content for form in written):
            yield path


def _content(path: Path) -> bytes:
    """Read a file: a table as JSON, a page also as what it shows."""
    if path.suffix != ".parquet":
        content = path.read_bytes()
        if path.suffix != ".html":
            return content
        return content + html.unescape(TAG.sub("", content.decode(errors="replace"))).encode()
    from pyarrow import parquet

    table = parquet.read_table(path).to_pandas(ignore_metadata=True)  # an index is a column, too
    return table.to_json(force_ascii=True).encode()


def _texts(one: Checked) -> set[str]:
    columns = ["question", "answer", "gold_answer", "reference_answer", "key_fact"]
    columns += ["paraphrased_question", "paraphrased_answer"]
    rows = one.rows()
    asked = (related["question"] for listed in rows["related"].dropna() for related in listed)
    return {*rows[columns].melt()["value"].dropna(), *asked}


def _found(left: Collection[Path], unread: Collection[Path]) -> str:
    found = {"hold them": left, "could not be searched": unread}
    others = [
        f"{len(paths)} other files of the artefacts {what}, which the log names"
        for what, paths in found.items()
        if paths
    ]
    return "; ".join(others) or "no other file of the artefacts holds them"
