"""Readers of text, JSON and CSV, whose errors name the file and the line."""

from __future__ import annotations

import csv
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import StringIO
from typing import IO, Any

import fsspec

from closer_look.errors import InputError, first_line, quote

DELIMITERS = ",;\t"  # spreadsheets write what their country does


def read_lines(filepath: str, source: str = "") -> dict[int, str]:
    """Read the lines of a file that are not blank.

    Args:
        filepath: path or URL that fsspec understands.
        source: where to get the file, for the error if it is missing.

    Returns:
        The lines by their number in the file, counted from 1.

    Raises:
        InputError: the file is missing, empty, not in UTF-8 or UTF-16, or cannot be read.
    """
    return _numbered(_read_text(filepath, source), filepath)


def read_json(filepath: str, source: str = "") -> list[dict[str, Any]]:
    """Read a file with one JSON object per line, or with one JSON array of objects.

    A number comes as the text that stands in the file: 1.10 is "1.10".

    Raises:
        InputError: as ``read_lines``; or a line or row is not a JSON object, and the message names
            it.
    """
    text = _read_text(filepath, source)
    if text.lstrip().startswith("["):
        kind, rows = "row", dict(enumerate(_parse(text, filepath), start=1))
    else:
        lines = _numbered(text, filepath)
        kind, rows = "line", {n: _parse(line, filepath, n) for n, line in lines.items()}
    for number, row in rows.items():
        if not isinstance(row, dict):
            raise InputError(f"{filepath}: {kind} {number} is not a JSON object")
    return list(rows.values())


def read_csv(filepath: str, source: str = "") -> list[dict[str, Any]]:
    """Read a CSV file with a header; cells are text, and empty cells are left out.

    Commas, semicolons or tabs separate the cells: what splits the header into the most, or what a
    first line ``sep=;`` says.

    Raises:
        InputError: as ``read_lines``; or a line has more cells than the header, and the message
            names it.
    """
    file = StringIO(_read_text(filepath, source))
    first = file.readline()
    told = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
    n_before = 1 if told else 0
    if not told:
        file.seek(0)
    delimiter = told[1] if told else max(DELIMITERS, key=partial(_n_cells, first))
    reader = csv.DictReader(file, delimiter=delimiter)
    rows = []
    try:
        names = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        twice = _named_twice([name for name in names if name])
        if twice:
            raise InputError(f"{filepath}: line {1 + n_before} cannot be read ({twice})")
        for row in reader:
            if None in row:
                raise InputError(
                    f"{filepath}: line {reader.line_num + n_before} has more cells than the "
                    f"header; put texts with {quote(delimiter)} in quotes"
                )
            rows.append({name: cell for name, cell in row.items() if cell})
    except csv.Error as error:
        raise InputError(
            f"{filepath}: line {reader.line_num + n_before + 1} cannot be read ({error})"
        ) from None
    if not rows:
        raise InputError(f"{filepath}: the table is empty")
    return rows


@contextmanager
def opened(filepath: str, source: str = "") -> Iterator[IO[bytes]]:
    """Open a file or URL to read bytes, and turn errors into an ``InputError``."""
    try:
        with fsspec.open(filepath, "rb") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{filepath} is missing" + (f"; {source}" if source else "")) from None
    except OSError as error:
        raise InputError(f"{filepath} cannot be read ({error.strerror or error})") from None


def _read_text(filepath: str, source: str) -> str:
    """Decode a file; whatever system wrote it, its lines end in a line feed."""
    with opened(filepath, source) as file:
        content = file.read()
    is_utf16 = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{filepath} is not text in UTF-8; save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _numbered(text: str, filepath: str) -> dict[int, str]:
    lines = {number: line.strip() for number, line in enumerate(text.split("\n"), start=1)}
    lines = {number: line for number, line in lines.items() if line}
    if not lines:
        raise InputError(f"{filepath}: the table is empty")
    return lines


def _parse(text: str, filepath: str, number: int | None = None) -> Any:
    """Parse a line of JSON, or a whole file."""
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{filepath}: line {number or error.lineno} is not JSON ({error.msg}); each line "
            f"must be one JSON object, or the file one array of them"
        ) from None
    except (ValueError, RecursionError) as error:  # NaN, a name twice, deeply nested lists
        place = f"{filepath}: line {number}" if number else filepath
        raise InputError(f"{place} cannot be read ({first_line(error)})") from None


def _row(cells: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = _named_twice([name for name, _ in cells])
    if twice:
        raise ValueError(twice)
    return dict(cells)


def _named_twice(names: Sequence[str]) -> str | None:
    """Describe the fault if a name occurs twice: one of its values would be lost."""
    if len(set(names)) == len(names):
        return None
    name, _ = Counter(names).most_common(1)[0]
    return f"{quote(name)} occurs more than once"


def _no_number(written: str) -> None:
    raise ValueError(f"{written} is not a number in JSON")


def _n_cells(header: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([header], delimiter=delimiter), []))
    except csv.Error:  # a cell too long, if this is the delimiter
        return 0


DECODER = json.JSONDecoder(
    object_pairs_hook=_row, parse_int=str, parse_float=str, parse_constant=_no_number
)
