"""The secret with which the ledger's hashes of rows are salted."""

from __future__ import annotations

import secrets
from pathlib import Path

import fsspec

from closer_look.errors import InputError
from closer_look.system.storage import is_url, shown

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
    try:
        with fsspec.open(place, "rb") as file:
            return file.read()
    except FileNotFoundError:
        if not is_new:
            raise InputError(
                f"{shown(place)} is missing, with which the ledger's hashes were made: put it back"
            ) from None
    salt = secrets.token_bytes(32)
    with fsspec.open(place, "wb", **({} if is_url(place) else {"auto_mkdir": True})) as file:
        file.write(salt)
    if not is_url(place):
        Path(place).chmod(0o600)
    return salt
