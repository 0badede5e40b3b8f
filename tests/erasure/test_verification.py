"""Whatever is changed after a certificate was made, its verification names it."""

import base64
import json
import shutil

import fsspec
import pytest

from closer_look.erasure.ledger import Ledger
from closer_look.erasure.signing import sign
from closer_look.erasure.statement import Certificate, write_statement
from closer_look.erasure.verification import model_files, verify
from closer_look.errors import InputError
from closer_look.system import whole_folders

NOT_SIGNED = "the certificate is not signed: whoever can write the file can have made it"


@pytest.fixture
def signed(certified, keys):
    """The certificate in its file, signed."""
    path = certified.path / "r-2.json"
    envelope = sign(write_statement(certified.certificate), str(keys / "private.pem"))
    path.write_text(json.dumps(envelope.content), encoding="utf-8")
    return path


@pytest.fixture
def look(certified, keys):
    """Verify a certificate's file with a key, by name."""

    def look(path, key="public"):
        key = None if key is None else str(keys / f"{key}.pem")
        return verify(str(path), key, certified.ledger, certified.models)

    return look


def write(certified, **parts):
    """Write the certificate without a signature, with other parts."""
    values = certified.certificate.model_dump()
    for part, changes in parts.items():
        values[part] |= changes
    path = certified.path / "unsigned.json"
    envelope = sign(write_statement(Certificate.model_validate(values)), None)
    path.write_text(json.dumps(envelope.content), encoding="utf-8")
    return path


def test_what_nobody_has_touched_holds(signed, look):
    found = look(signed)
    assert found.faults == found.notes == []
    assert found.holds[0].startswith("signed with the key ")
    assert found.holds[1:] == [
        "line 2 of 3 of the ledger, unbroken",
        "2 files of the model, as certified",
    ]


def test_an_unsigned_certificate_is_noted_and_with_a_key_a_fault(certified, look):
    unsigned = write(certified)
    assert look(unsigned, None)[1:] == ([NOT_SIGNED], [])
    assert look(unsigned).faults == ["the certificate is not signed"]


def test_a_signature_without_a_key_to_check_it_is_noted(signed, look):
    (note,) = look(signed, None).notes
    assert note.startswith("the signature was not checked: give the public key of ")


def test_another_key_is_a_fault(signed, look):
    (fault,) = look(signed, "other_public").faults
    assert "and erasure.key is another one" in fault


def test_a_changed_payload_is_a_fault(signed, look):
    content = json.loads(signed.read_text(encoding="utf-8"))
    payload = base64.b64decode(content["payload"]).replace(b"0.81", b"0.99")
    content["payload"] = base64.b64encode(payload).decode()
    signed.write_text(json.dumps(content), encoding="utf-8")
    assert look(signed).faults == ["the certificate was changed after it was signed"]


def change_line(certified, number, change):
    place = certified.ledger.place
    lines = place.read_text(encoding="utf-8").split("\n")
    change(lines, number)
    place.write_text("\n".join(lines), encoding="utf-8")


def replace(lines, number):
    lines[number] = lines[number].replace("r-", "q-")


def remove(lines, number):
    del lines[number]


def reorder(lines, number):
    lines[number], lines[number + 1] = lines[number + 1], lines[number]


@pytest.mark.parametrize(
    ("number", "change", "faults"),
    [
        (1, replace, ["line 1 was changed"]),
        (3, replace, ["line 3 was changed"]),
        (1, remove, ["line 1 is missing"]),
        (1, reorder, ["line 1 stands after line 2"]),
        (2, remove, ["line 2 is missing", "the certificate's line 2 is not in "]),
    ],
)
def test_what_was_done_to_the_ledger_is_a_fault(signed, certified, look, number, change, faults):
    change_line(certified, number, change)
    found = look(signed)
    assert len(found.faults) == len(faults)
    for is_found, fault in zip(found.faults, faults, strict=True):
        assert is_found.startswith(f"the ledger: {fault}")
    assert not any("unbroken" in one for one in found.holds)


def test_a_ledger_that_was_cut_off_before_the_line_is_a_fault(signed, certified, look):
    """Its chain is whole: only the certificate knows that there was more."""
    for number in (3, 2):
        change_line(certified, number, remove)
    (fault,) = look(signed).faults
    assert fault.startswith("the ledger: the certificate's line 2 is not in ")


def test_another_ledger_is_a_fault(signed, certified, look):
    lines = certified.ledger.lines()
    certified.ledger = Ledger(certified.path / "other.jsonl")
    for line in lines:
        hashes = {"index", "time", "kind", "previous", "sha256"}
        fields = line.model_dump(exclude_defaults=True, exclude=hashes)
        certified.ledger.append(line.kind, **fields, code_version="another")
    (fault,) = look(signed).faults
    assert fault.startswith("the ledger: line 2 is not the certificate's: the line was replaced")


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"asked": {"request_id": "r-9"}}, "request_id"),
        ({"asked": {"rows_sha256": "1" * 64}}, "rows_sha256"),
        ({"done": {"decision": "not_known"}}, "kind"),
        ({"model": {"before": "1" * 64}}, "model_before"),
        ({"model": {"after": "1" * 64}}, "model_after"),
    ],
)
def test_an_unsigned_certificate_that_says_another_thing_than_its_line_is_a_fault(
    certified, look, parts, name
):
    expected = f"the certificate has another {name} than line 2 of the ledger"
    assert look(write(certified, **parts), None).faults == [expected]


def test_an_unsigned_certificate_of_other_files_is_a_fault(certified, look):
    """Not even files that lie there: the ledger has a hash of them all."""
    (certified.folder / "model.safetensors").write_bytes(b"other weights")
    path = write(certified, model={"files": model_files(certified.folder)})
    expected = "the certificate has other files of the model than line 2 of the ledger"
    assert look(path, None).faults == [expected]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "config.json").write_bytes(b"{ }"), "config.json was changed"),
        (lambda folder: (folder / "code.py").write_bytes(b""), "code.py was added"),
    ],
)
def test_a_changed_file_of_the_model_is_a_fault(signed, certified, look, change, fault):
    change(certified.folder)
    assert look(signed).faults == [f"the model: {fault}"]


def test_a_missing_model_is_a_fault(signed, certified, look):
    shutil.rmtree(certified.folder)
    (fault,) = look(signed).faults
    assert fault.startswith("the model: ")
    assert fault.endswith("model_2 is missing")


def test_each_fault_is_told(signed, certified, look):
    change_line(certified, 1, replace)
    shutil.rmtree(certified.folder)
    assert len(look(signed, "other_public").faults) == 3


def test_a_purge_that_the_ledger_does_not_know_is_a_fault(certified, look):
    path = write(certified, done={"purged": True})
    (fault,) = look(path, None).faults
    assert fault == (
        "the certificate says that the rows are deleted, and no later line of the ledger does"
    )
    certified.ledger.append("purged", request_id="r-2")
    assert look(path, None).faults == []


def stays(certified, model, **asked):
    """Write the certificate of a request that has failed on a model."""
    asked |= {"rows_sha256": certified.certificate.asked.rows_sha256}
    line = certified.ledger.append("failed", **asked, model_before=model)
    place = {"index": line.index, "sha256": line.sha256}
    files = model_files(certified.folder)
    return write(
        certified,
        asked=asked,
        done={"decision": "failed"},
        model={"before": model, "after": model, "files": files},
        ledger=place,
    )


def test_the_files_of_a_model_that_stays_are_those_that_were_served(certified, look):
    served = certified.certificate.model.after
    path = stays(certified, served, request_id="r-4")
    assert look(path, None).faults == []
    assert look(path, None).holds[-1] == "2 files of the model, as certified"
    (certified.folder / "model.safetensors").write_bytes(b"other weights")
    path = stays(certified, served, request_id="r-5")
    expected = "the certificate has other files of the model than line 2 of the ledger"
    assert look(path, None).faults == [expected]


def test_files_that_the_ledger_does_not_name_are_noted(certified, look):
    path = stays(certified, certified.certificate.model.before, request_id="r-4")
    found = look(path, None)
    assert not any("files of the model" in one for one in found.holds)
    assert "2 files of the model are as certified, but the ledger does not name them" in found.notes


def test_adapters_are_noted(certified, look):
    (certified.folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    path = write(certified, model={"files": model_files(certified.folder)})
    note = "the base model was not checked: the model's files are its adapters"
    assert look(path, None).notes[-1] == note


def test_a_model_that_serving_has_not_made_is_noted(certified, look):
    path = write(certified, model={"folder": None})
    assert look(path, None).notes[-1].startswith("the model's files were not checked")


def test_what_came_later_is_noted(signed, certified, look):
    before, after = certified.certificate.model.before, certified.certificate.model.after
    certified.ledger.append("requeued", request_id="r-2")
    certified.ledger.append("rolled_back", model_before=after, model_after=before)
    found = look(signed)
    assert found.faults == []
    assert found.notes == [
        "another model is current, that of line 5 (rolled_back)",
        "line 4 is about the same request (requeued)",
    ]


def test_a_model_in_a_bucket_is_hashed_as_it_is_there(certified, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSER_LOOK_CACHE", str(tmp_path / "cache"))
    url = "memory://bucket/erasure/model_2"
    with whole_folders.written(url) as folder:
        shutil.copytree(certified.folder, folder, dirs_exist_ok=True)
    path = write(certified)
    found = verify(str(path), None, certified.ledger, "memory://bucket/erasure")
    assert found.holds[-1] == "2 files of the model, as certified"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)
    (fault,) = verify(str(path), None, certified.ledger, "memory://bucket/erasure").faults
    assert fault == f"the model: {url} is missing"


def test_what_cannot_be_read_is_one_line(certified, look, keys):
    with pytest.raises(InputError, match=r"^nowhere.json is missing: name a certificate, "):
        look("nowhere.json")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)$"):
        look(certified.path)
    with pytest.raises(InputError, match=r"^parameter erasure.key: \S+none.pem cannot be read"):
        look(write(certified), "none")
