"""Errors of the user's input, and the formatting of their messages."""

import reprlib
from collections.abc import Sequence

import click

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 100  # characters


class InputError(click.ClickException):
    """Raised for a fault of the input: data, parameters, folders or disk space.

    ``kedro run`` prints the message as one line and exits with status 1; in Python it is an
    ordinary exception. The message names the file, row or parameter and says what to do. What a
    terminal would not show as it is, such as a line break in a name, is written as in Python.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


def quote(value: object) -> str:
    """Format a value for a message: one short line, without control characters."""
    return _shortened.repr(value)


def listed(words: Sequence[str]) -> str:
    """Join words with commas, and "and" before the last."""
    return " and ".join(", ".join(part) for part in (words[:-1], words[-1:]) if part)


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, without a trailing colon."""
    return str(error).strip().partition("\n")[0].rstrip(": ")
