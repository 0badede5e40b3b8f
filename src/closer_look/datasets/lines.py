"""Lines of text and of JSON, with errors that name the file and the line."""

from __future__ import annotations

import json
from typing import Any

import fsspec

from closer_look.errors import InputError


def read_lines(filepath: str, source: str = "") -> list[str]:
    """Read the lines of a file in a folder or at a URL, without blank ones.

    Args:
        filepath: path or URL that fsspec understands.
        source: where to get the file, said when it is missing.

    Raises:
        InputError: the file is missing, empty, not UTF-8 or cannot be read.
    """
    return list(_numbered_lines(filepath, source).values())


def read_json_lines(filepath: str, source: str = "") -> list[dict[str, Any]]:
    """Read one JSON object a line.

    Raises:
        InputError: as ``read_lines``, or naming the line that is no JSON object.
    """
    rows = []
    for number, line in _numbered_lines(filepath, source).items():
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{filepath}: line {number} is not JSON ({error.msg}); "
                f"one object a line is expected"
            ) from None
        if not isinstance(row, dict):
            raise InputError(f"{filepath}: line {number} is not a JSON object")
        rows.append(row)
    return rows


def _numbered_lines(filepath: str, source: str) -> dict[int, str]:
    """Lines by their number in the file, counted from 1."""
    try:
        with fsspec.open(filepath, "rt", encoding="utf-8-sig") as file:
            lines = {number: line.strip() for number, line in enumerate(file, start=1)}
    except FileNotFoundError:
        raise InputError(f"{filepath} is missing" + (f"; {source}" if source else "")) from None
    except UnicodeDecodeError:
        raise InputError(f"{filepath} is not a text in UTF-8") from None
    except OSError as error:
        raise InputError(f"{filepath} cannot be read ({error.strerror or error})") from None
    lines = {number: line for number, line in lines.items() if line}
    if not lines:
        raise InputError(f"{filepath}: the table is empty")
    return lines
