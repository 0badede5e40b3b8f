"""What a user sees when the input is at fault."""

import reprlib
from collections.abc import Sequence

import click

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 100  # characters


class InputError(click.ClickException):
    """A fault of the input: data, parameters, folders or space.

    ``kedro run`` prints the message as one line and exits with status 1; in Python it is an
    ordinary exception. The message names the file, row or parameter and says what would be right.
    """


def quote(value: object) -> str:
    """What a message says of a value: one line, not too long, nothing that a terminal obeys."""
    return _shortened.repr(value)


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: with commas, and "and" before the last."""
    return " and ".join(", ".join(part) for part in (words[:-1], words[-1:]) if part)


def first_line(error: Exception) -> str:
    """What a library says of a fault, without what it adds below."""
    return str(error).strip().partition("\n")[0].rstrip(": ")
