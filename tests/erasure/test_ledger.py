"""The ledger: a kill leaves whole lines, and no change of one goes unseen."""

import errno
import hashlib
import json
import os

import fsspec
import pytest

from closer_look.erasure.ledger import FIRST, Ledger, current, find_faults
from closer_look.errors import InputError

A, B = (hashlib.sha256(name).hexdigest() for name in (b"a", b"b"))


@pytest.fixture
def ledger(tmp_path):
    """A ledger of five lines."""
    ledger = Ledger(tmp_path / "reports" / "ledger.jsonl")
    ledger.append("served", request_id="r-1", model_before=A, model_after=B)
    ledger.append("set_aside", request_id="r-2", reason="rows: there is none")
    ledger.append("not_known", request_id="r-3", model_before=B)
    ledger.append("failed", request_id="r-4", model_before=B, attempts=({"epochs": 5},))
    ledger.append("rolled_back", model_before=B, model_after=A)
    return ledger


def test_lines_hold_each_other_and_come_back(ledger):
    lines = ledger.lines()
    assert [line.index for line in lines] == [1, 2, 3, 4, 5]
    assert [line.previous for line in lines] == [FIRST, *(line.sha256 for line in lines[:-1])]
    assert lines[3].attempts == ({"epochs": 5},)
    assert Ledger(ledger.place.with_name("none.jsonl")).lines() == []


def test_anyone_can_compute_the_hash_of_a_line(ledger):
    for written in ledger.place.read_text(encoding="utf-8").split("\n")[1:]:
        fields = json.loads(written)
        sha256 = fields.pop("sha256")
        assert hashlib.sha256(json.dumps(fields).encode()).hexdigest() == sha256


def test_the_last_line_that_names_a_model_makes_it_current(ledger):
    lines = ledger.lines()
    assert current(lines).kind == "rolled_back"
    assert current(lines[:4]).model_after == B
    assert current(lines[1:4]) is None


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("served", {}),
        ("failed", {"model_after": A}),
        ("lost", {}),
        ("failed", {"subject": "Jane Roe"}),
        ("served", {"model_after": "no hash"}),
        ("failed", {"attempts": ({"utility": float("nan")},)}),
    ],
)
def test_a_line_that_says_nothing_sensible_is_not_written(ledger, kind, fields):
    before = ledger.place.read_bytes()
    with pytest.raises(ValueError):
        ledger.append(kind, **fields)
    assert ledger.place.read_bytes() == before


def swap(lines):
    lines[1], lines[2] = lines[2], lines[1]


def resealed(lines):
    """Line 3 with another request, and a hash made anew."""
    fields = json.loads(lines[2]) | {"request_id": "r-9"}
    del fields["sha256"]
    sha256 = hashlib.sha256(json.dumps(fields).encode()).hexdigest()
    lines[2] = json.dumps(fields | {"sha256": sha256})


def edit(number, old, new):
    def change(lines):
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new)

    return change


FOUR_DOES_NOT_FOLLOW = "line 4 does not follow the line before it: one of the two was replaced"


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (edit(3, "r-3", "r-7"), ["line 3 was changed"]),
        (edit(1, "r-1", "r-7"), ["line 1 was changed"]),
        (edit(5, A, B), ["line 5 was changed"]),  # the last, which no other holds
        (edit(3, '"kind": ', '"kind":'), ["line 3 was changed"]),
        (edit(2, "{", '{"kind": "served", '), ["line 2 was changed"]),  # a name twice
        (edit(4, '"epochs": 5', '"epochs": 5.0'), ["line 4 was changed"]),
        (edit(2, "set_aside", "unheard_of"), ["what stands as line 2 was changed: it is no line "
         "of a ledger", "line 2 is missing"]),
        (lambda lines: lines.pop(2), ["line 3 is missing"]),
        (lambda lines: lines.pop(0), ["line 1 is missing"]),
        (swap, ["line 2 stands after line 3"]),
        (lambda lines: lines.insert(2, lines[1]), ["line 2 stands there twice"]),
        (resealed, [FOUR_DOES_NOT_FOLLOW]),
        (edit(3, "", "no JSON "), ["line 3 is missing"]),
    ],
)  # fmt: skip
def test_what_was_done_to_the_file_is_named(ledger, change, faults):
    lines = ledger.place.read_text(encoding="utf-8").split("\n")[1:]
    change(lines)
    text = "\n".join(lines)
    ledger.place.write_text(text, encoding="utf-8")
    assert find_faults(ledger.written())[1] == faults
    message = f"ledger.jsonl: {faults[0]}; nothing is served on such a ledger: put back the file"
    with pytest.raises(InputError) as caught:
        ledger.append("requeued", request_id="r-1")
    assert message in str(caught.value)
    assert ledger.place.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("n_bytes", [1, 2, 40, 200])
def test_a_line_that_was_cut_off_does_not_count(ledger, n_bytes, caplog):
    whole = ledger.lines()
    ledger.append("requeued", request_id="r-1")
    torn = ledger.place.read_bytes()
    end = torn.rindex(b"\n") + n_bytes
    ledger.place.write_bytes(torn[:end])
    assert ledger.lines() == whole
    assert ("is cut off and does not count" in caplog.text) == (n_bytes > 1)
    line = ledger.append("purged", request_id="r-1")
    assert ledger.lines() == [*whole, line]
    assert line.index == 6


def test_a_line_is_on_the_disk_when_it_counts(ledger, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    ledger.append("requeued", request_id="r-1")
    assert synced == [ledger.place.stat().st_size]


def test_a_full_disk_is_an_error_and_no_line(ledger, monkeypatch):
    whole = ledger.lines()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, text: write(file, text[:30]))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        ledger.append("requeued", request_id="r-1")
    assert ledger.lines() == whole


def test_a_ledger_in_a_bucket_is_the_same():
    filesystem = fsspec.filesystem("memory")
    ledger = Ledger("memory://bucket/run/ledger.jsonl")
    assert ledger.lines() == []
    for number in range(12):  # more than one digit
        ledger.append("requeued", request_id=f"r-{number}")
    assert [line.index for line in ledger.lines()] == [*range(1, 13)]
    filesystem.rm("/bucket/run/ledger.jsonl/00000002.json")
    assert find_faults(ledger.written())[1] == ["line 2 is missing"]
    filesystem.rm("/bucket", recursive=True)
