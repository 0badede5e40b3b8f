"""Readers of text, JSON Lines and CSV, whose errors name the file and the line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import fsspec

from closer_look.errors import InputError, first_line, quote


def read_lines(filepath: str, source: str = "") -> dict[int, str]:
    """Read the lines of a file that are not blank.

    Args:
        filepath: path or URL that fsspec understands.
        source: where to get the file, for the error if it is missing.

    Returns:
        The lines by their number in the file, counted from 1.

    Raises:
        InputError: the file is missing, empty, not UTF-8 or cannot be read.
    """
    with _opened(filepath, source) as file:
        lines = {number: line.strip() for number, line in enumerate(file, start=1)}
    lines = {number: line for number, line in lines.items() if line}
    if not lines:
        raise InputError(f"{filepath}: the table is empty")
    return lines


def read_json_lines(filepath: str, source: str = "") -> list[dict[str, Any]]:
    """Read a file with one JSON object per line.

    Raises:
        InputError: as ``read_lines``; or a line is not a JSON object, and the message names it.
    """
    rows = []
    for number, line in read_lines(filepath, source).items():
        try:
            row = json.loads(line, object_pairs_hook=_row, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{filepath}: line {number} is not JSON ({error.msg}); "
                f"each line must be one JSON object"
            ) from None
        except (ValueError, RecursionError) as error:  # NaN, 5000 digits, deeply nested lists
            raise InputError(
                f"{filepath}: line {number} cannot be read ({first_line(error)})"
            ) from None
        if not isinstance(row, dict):
            raise InputError(f"{filepath}: line {number} is not a JSON object")
        rows.append(row)
    return rows


def read_csv(filepath: str, source: str = "") -> list[dict[str, Any]]:
    """Read a CSV file with a header; cells are text, and empty cells are left out.

    Raises:
        InputError: as ``read_lines``; or a line has more cells than the header, and the message
            names it.
    """
    with _opened(filepath, source) as file:
        reader = csv.DictReader(file)
        rows = []
        try:
            for row in reader:
                if None in row:
                    raise InputError(
                        f"{filepath}: line {reader.line_num} has more cells than the header; "
                        f"put texts with commas in quotes"
                    )
                rows.append({name: cell for name, cell in row.items() if cell})
        except csv.Error as error:
            raise InputError(
                f"{filepath}: line {reader.line_num + 1} cannot be read ({error})"
            ) from None
        twice = _named_twice([name for name in reader.fieldnames or () if name])
    if twice:
        raise InputError(f"{filepath}: line 1 cannot be read ({twice})")
    if not rows:
        raise InputError(f"{filepath}: the table is empty")
    return rows


def _row(cells: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = _named_twice([name for name, _ in cells])
    if twice:
        raise ValueError(twice)
    return dict(cells)


def _named_twice(names: Sequence[str]) -> str | None:
    """Describe the fault if a name occurs twice: one of its values would be lost."""
    twice = [name for name in names if names.count(name) > 1]
    return f"{quote(twice[0])} occurs more than once" if twice else None


def _no_number(written: str) -> None:
    raise ValueError(f"{written} is not a number in JSON")


@contextmanager
def _opened(filepath: str, source: str) -> Iterator[TextIO]:
    """Open a text file, and turn errors into an ``InputError``."""
    try:
        with fsspec.open(filepath, "rt", encoding="utf-8-sig") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{filepath} is missing" + (f"; {source}" if source else "")) from None
    except UnicodeDecodeError:
        raise InputError(f"{filepath} is not text in UTF-8; convert it") from None
    except OSError as error:
        raise InputError(f"{filepath} cannot be read ({error.strerror or error})") from None
