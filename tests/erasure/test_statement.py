"""A certificate is a statement of in-toto, and says no more than was shown."""

import json
import re
import subprocess

import pytest
from pydantic import ValidationError

from closer_look.erasure.statement import (
    Model,
    files_digest,
    not_proven,
    read_statement,
    write_statement,
)
from closer_look.errors import InputError


def test_a_statement_is_about_the_files_of_the_model(certified):
    payload = write_statement(certified.certificate)
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert re.fullmatch(r"urn:[a-z-]+:\S+", statement["predicateType"])
    assert [one["name"] for one in statement["subject"]] == ["config.json", "model.safetensors"]
    done = subprocess.run(  # noqa: S603
        ["sha256sum", *(one["name"] for one in statement["subject"])],  # noqa: S607
        cwd=certified.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    of_tool = [line.split()[0] for line in done.stdout.splitlines()]
    assert [one["digest"]["sha256"] for one in statement["subject"]] == of_tool
    hashed = subprocess.run(
        ["sha256sum"],  # noqa: S607
        input=done.stdout,
        capture_output=True,
        text=True,
        check=True,
    )
    assert files_digest(certified.certificate.model.files) == hashed.stdout.split()[0]
    assert read_statement(payload) == certified.certificate


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one["predicate"]["model"].update(after="none"), r"\(model.after: String .*\)"),
        (lambda one: one["predicate"].update(score=1), r"\(score: Extra inputs .*\)"),
        (lambda one: one["predicate"]["model"].update(folder="../x"), r"\(model.folder: .*\)"),
        (lambda one: one["subject"].pop(), "subject is not the model that it describes"),
        (lambda one: one.update(predicateType="urn:x"), r"a statement of another kind \(urn:x\)"),
        (lambda one: one.pop("subject"), "holds no statement about a request to forget"),
    ],
)
def test_a_faulty_statement_is_refused(certified, change, message):
    statement = json.loads(write_statement(certified.certificate))
    change(statement)
    with pytest.raises(InputError, match=f"^the certificate.* {message}$"):
        read_statement(json.dumps(statement).encode())


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_statement_is_refused(payload):
    with pytest.raises(InputError, match="holds no statement about a request to forget"):
        read_statement(payload)


def test_a_certificate_names_at_least_one_file():
    with pytest.raises(ValidationError, match="files"):
        Model(before="0" * 64, after="0" * 64, files={})


def test_what_is_not_proven_hangs_on_what_was_done():
    plain = " ".join(not_proven("served", [], purged=False))
    assert "Exact deletion. The weights were changed by training." in plain
    assert "No attack was run" in plain
    assert "still kept with the run (erasure.purge was off)" in plain
    attacked = " ".join(not_proven("failed", ["relearning", "hints"], purged=True))
    assert "The weights are as they were" in attacked
    assert "run: relearning and hints. Others, and stronger ones, were not." in attacked
    assert "file and the answers of its serving were deleted, and nothing else" in attacked
    assert "whether other files of the artefacts hold the rows' texts." in attacked
