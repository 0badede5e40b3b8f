"""Certificates in DSSE envelopes, which an Ed25519 key signs.

The envelope holds the statement's bytes as they were signed, so nothing hangs on how JSON is
written. See https://github.com/secure-systems-lab/dsse. Without a key it has no signatures.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from closer_look.errors import InputError, first_line

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAKE_KEY = "openssl genpkey -algorithm ed25519 -out key.pem"


class Envelope(NamedTuple):
    """An envelope: the statement, and the keys that are said to have signed it."""

    payload: bytes
    key_ids: tuple[str, ...]
    content: dict[str, Any]
    """The whole, as it is written in JSON."""


def sign(payload: bytes, key: str | None) -> Envelope:
    """Put a statement into an envelope, and sign it.

    Args:
        payload: the statement.
        key: path of a private Ed25519 key, in PEM; None for an envelope without signatures.

    Raises:
        InputError: there is no such key, or the extra ``signing`` is not installed.
    """
    if key is None:
        written = base64.b64encode(payload).decode()
        return Envelope(
            payload, (), {"payload": written, "payloadType": PAYLOAD_TYPE, "signatures": []}
        )
    private, _ = _read_key(key)
    if private is None:
        raise InputError(f"parameter erasure.key: {key} is a public key; signing needs the private")
    from securesystemslib.dsse import Envelope as Signed
    from securesystemslib.signer import CryptoSigner

    signed = Signed(payload, PAYLOAD_TYPE, {})
    signature = signed.sign(CryptoSigner(private))
    return Envelope(payload, (signature.keyid,), signed.to_dict())


def read_envelope(text: bytes) -> Envelope:
    """Read an envelope, unchecked.

    Raises:
        InputError: it is none, or holds something else than a statement.
    """
    try:
        content = json.loads(text)
        payload = base64.b64decode(content["payload"], validate=True)
        key_ids = tuple(str(one.get("keyid", "")) for one in content["signatures"])
        payload_type = content["payloadType"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError("the certificate is no envelope with a statement (DSSE)") from None
    if payload_type != PAYLOAD_TYPE:
        raise InputError("the certificate's envelope does not hold a statement of in-toto")
    return Envelope(payload, key_ids, content)


def check_signature(envelope: Envelope, key: str) -> str:
    """Check that a key has signed an envelope.

    Args:
        envelope: from ``read_envelope``.
        key: path of the public key, in PEM, or of the private one.

    Returns:
        The ID of the key.

    Raises:
        InputError: the envelope is not signed, another key has signed it, or it was changed since;
            or there is no such key, or the extra ``signing`` is not installed.
    """
    _, public = _read_key(key)
    from securesystemslib.dsse import Envelope as Signed
    from securesystemslib.exceptions import Error
    from securesystemslib.signer import SSlibKey

    expected = SSlibKey.from_crypto(public)
    if not envelope.key_ids:
        raise InputError("the certificate is not signed")
    if expected.keyid not in envelope.key_ids:
        raise InputError(
            f"the certificate is signed with the key {envelope.key_ids[0][:16]}, and erasure.key "
            f"is another one, {expected.keyid[:16]}"
        )
    try:  # a copy: the library changes what it reads
        Signed.from_dict(json.loads(json.dumps(envelope.content))).verify([expected], 1)
    except (Error, ValueError, KeyError, TypeError):
        raise InputError("the certificate was changed after it was signed") from None
    return expected.keyid


def _read_key(path: str) -> tuple[Ed25519PrivateKey | None, Ed25519PublicKey]:
    """Read a key, private or public."""
    try:
        import securesystemslib.dsse  # noqa: F401
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise InputError(
            "parameter erasure.key: signing needs a package that is not installed; "
            "pip install 'closer-look[signing]'"
        ) from None
    try:
        text = Path(path).read_bytes()
        if b"PRIVATE KEY" in text:
            key = serialization.load_pem_private_key(text, password=None)
        else:
            key = serialization.load_pem_public_key(text)
    except OSError as error:
        raise InputError(
            f"parameter erasure.key: {path} cannot be read ({error.strerror})"
        ) from None
    except (ValueError, TypeError) as error:  # of a key with a password, too
        raise InputError(
            f"parameter erasure.key: {path} holds no key in PEM without a password "
            f"({first_line(error)}); make one: {MAKE_KEY}"
        ) from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key, key.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return None, key
    raise InputError(f"parameter erasure.key: {path} is no Ed25519 key; make one: {MAKE_KEY}")
