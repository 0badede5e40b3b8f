"""Envelopes: signed or not, and what cannot be a key."""

import base64
import json
import sys

import pytest

from closer_look.erasure.signing import check_signature, read_envelope, sign
from closer_look.errors import InputError

PAYLOAD = b'{"_type": "a statement"}'


def again(envelope, **changes):
    """The envelope as it comes back from its file."""
    return read_envelope(json.dumps(envelope.content | changes).encode())


def test_a_signed_envelope_is_checked_with_either_half_of_the_key(keys):
    envelope = sign(PAYLOAD, str(keys / "private.pem"))
    assert again(envelope) == envelope
    for name in ("public", "private"):
        assert check_signature(again(envelope), str(keys / f"{name}.pem")) == envelope.key_ids[0]


def test_the_signature_is_that_of_dsse(keys):
    """Checked as its protocol says, without the library that made it."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = sign(PAYLOAD, str(keys / "private.pem")).content
    kind = content["payloadType"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(PAYLOAD), PAYLOAD)
    public = load_pem_public_key((keys / "public.pem").read_bytes())
    public.verify(base64.b64decode(content["signatures"][0]["sig"]), signed)  # raises if not


def test_without_a_key_there_is_no_signature(keys):
    envelope = sign(PAYLOAD, None)
    assert envelope.content["signatures"] == []
    assert again(envelope) == envelope
    with pytest.raises(InputError, match=r"^the certificate is not signed$"):
        check_signature(envelope, str(keys / "public.pem"))


def test_another_key_is_named(keys):
    envelope = sign(PAYLOAD, str(keys / "private.pem"))
    with pytest.raises(
        InputError, match=r"is signed with the key [0-9a-f]{16}, and erasure.key is"
    ):
        check_signature(envelope, str(keys / "other_public.pem"))


@pytest.mark.parametrize("what", ["payload", "signature", "no_signature", "key_id"])
def test_a_change_after_signing_is_found(keys, what):
    envelope = sign(PAYLOAD, str(keys / "private.pem"))
    signature = dict(envelope.content["signatures"][0])
    changes = {"signatures": [signature]}
    if what == "payload":
        changes = {"payload": base64.b64encode(PAYLOAD + b" ").decode()}
    elif what == "signature":
        signature["sig"] = base64.b64encode(bytes(64)).decode()
    elif what == "no_signature":
        del signature["sig"]
    else:  # that of another key's owner, who claims to be this one
        other = sign(PAYLOAD, str(keys / "other_private.pem")).content["signatures"][0]
        signature["sig"] = other["sig"]
    with pytest.raises(InputError, match=r"^the certificate was changed after it was signed$"):
        check_signature(again(envelope, **changes), str(keys / "public.pem"))


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff\xfe", b'{"payload": "%", "a": 1}'])
def test_what_is_no_envelope_is_refused(text):
    with pytest.raises(InputError, match=r"is no envelope with a statement"):
        read_envelope(text)


def test_an_envelope_of_something_else_is_refused():
    with pytest.raises(InputError, match=r"does not hold a statement of in-toto"):
        again(sign(PAYLOAD, None), payloadType="text/plain")


def write_key(path, kind):
    from cryptography.hazmat.primitives import serialization as to
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if kind == "no PEM":
        path.write_text("a key", encoding="utf-8")
        return
    key = ec.generate_private_key(ec.SECP256R1())
    locked = to.NoEncryption()
    if kind == "locked":
        key, locked = ed25519.Ed25519PrivateKey.generate(), to.BestAvailableEncryption(b"secret")
    path.write_bytes(key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, locked))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no PEM", "holds no key in PEM without a password .*; make one: openssl genpkey"),
        ("locked", "holds no key in PEM without a password .*; make one: openssl genpkey"),
        ("elliptic", "is no Ed25519 key; make one: openssl genpkey -algorithm ed25519"),
    ],
)
def test_a_key_that_cannot_sign_is_named(keys, tmp_path, kind, message):
    write_key(tmp_path / "key.pem", kind)
    with pytest.raises(InputError, match=rf"^parameter erasure.key: \S+key.pem {message}"):
        sign(PAYLOAD, str(tmp_path / "key.pem"))


def test_a_missing_key_is_named(keys):
    with pytest.raises(InputError, match=r"^parameter erasure.key: nowhere.pem cannot be read"):
        sign(PAYLOAD, "nowhere.pem")


def test_a_public_key_does_not_sign(keys):
    with pytest.raises(InputError, match=r"public.pem is a public key; signing needs the private"):
        sign(PAYLOAD, str(keys / "public.pem"))


def test_without_the_extra_only_a_key_is_refused(monkeypatch, keys):
    monkeypatch.setitem(sys.modules, "securesystemslib.dsse", None)
    assert again(sign(PAYLOAD, None)).payload == PAYLOAD
    with pytest.raises(InputError, match=r"pip install 'closer-look\[signing\]'"):
        sign(PAYLOAD, str(keys / "private.pem"))
