"""The secret with which the ledger's hashes of rows are salted."""

from __future__ import annotations

import secrets
from pathlib import Path

from closer_look.errors import InputError
from closer_look.system.storage import is_url, read_if_there, shown, write

NAME = "salt"


def read_salt(folder: Path | str, *, is_new: bool) -> bytes:
    """Read the salt of a chain of models, or make it.

    Whoever has it and the ledger can try texts against the hashes: it stays with the models, which
    are as secret.

    Args:
        folder: folder of the models, or its URL.
        is_new: whether the ledger has no line yet.

    Raises:
        InputError: it is missing, and the ledger has hashes that it made.
    """
    place = f"{folder}/{NAME}"
    present = read_if_there(place)
    if present is not None:
        return present
    if not is_new:
        raise InputError(
            f"{shown(place)} is missing, with which the ledger's hashes were made: put it back"
        )
    salt = secrets.token_bytes(32)
    write(place, salt)
    if not is_url(place):
        Path(place).chmod(0o600)
    return salt
