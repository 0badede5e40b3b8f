"""Requests: their faults, each in a line, and what they share with rows to retain."""

import json

import pytest

from closer_look.erasure.requests import check_request, rows_hash, rows_of_passages

ROW = {"question": "Who is Ilse Marwood?", "answer": "A botanist."}
REQUEST = {"request_id": "r-1", "received_at": "2026-03-01", "basis": "consent", "rows": [ROW]}


def faults(changes):
    request = {name: one for name, one in (REQUEST | changes).items() if one is not None}
    return check_request("file", json.dumps(request))


def test_a_request_becomes_rows(bench):
    checked = faults({"subjects": ["Ilse Marwood"], "passages": ["She was born. She left."]})
    assert checked.faults == ()
    table = checked.questions
    assert table["row_id"].tolist() == ["r-1-0001", "r-1-0002", "r-1-0003"]
    assert {*table["subject"]} == {"Ilse Marwood"}
    assert {*table["task_id"]} == {1}


def test_passages_become_rows():
    rows = rows_of_passages(["One two three. Four! Five?", "Six seven"])
    assert [(row["question"], row["answer"]) for row in rows] == [
        ("One two", "three."),
        ("One two three.", "Four!"),
        ("Four!", "Five?"),
        ("Six", "seven"),
    ]
    assert all(row["key_fact"] == row["answer"] for row in rows)


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"request_id": None}, ["request_id: Field required"]),
        ({"request_id": "a/b"}, ["request_id: String should match pattern"]),
        ({"received_at": 17, "basis": ""}, ["received_at: must be a date or time", "basis: "]),
        ({"received_at": "soon"}, ["received_at: Input should be a valid datetime"]),
        ({"rows": []}, ["it has neither rows nor passages"]),
        ({"rows": None}, ["it has neither rows nor passages"]),
        ({"rows": "x"}, ["rows: Input should be a valid tuple"]),
        ({"Ilse Marwood": 1}, ["there is a field that is none of request_id, "]),
        ({"rows": [ROW, ROW | {"answer": " "}, {"question": "q"}]}, ["rows.2 is", "rows.3 is"]),
        ({"rows": [ROW | {"answer": "Ilse\x07"}]}, ["rows.1 is faulty"]),
        ({"passages": ["Marwood"]}, ["rows.2 is faulty"]),
    ],
)
def test_each_fault_is_a_line_that_quotes_no_row(changes, reasons):
    checked = faults(changes)
    found = checked.reason.split("; ")
    assert len(found) == len(checked.faults) == len(reasons)
    assert all(one.startswith(reason) for one, reason in zip(found, reasons, strict=True)), found
    assert "Marwood" not in checked.reason


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": 1, "rows": 2}', "[" * 10**5, "NaN"])
def test_files_that_are_no_request(text):
    checked = check_request("file", text)
    assert checked.request_id == "file"
    assert len(checked.faults) == 1


def test_the_hash_of_rows_needs_the_salt_and_not_their_order():
    rows = faults({"rows": [ROW, {"question": "q", "answer": "a"}]}).questions
    assert rows_hash(rows, b"1") == rows_hash(rows[::-1], b"1") != rows_hash(rows, b"2")


def test_faulty_requests_are_set_aside_and_block_nobody(bench, caplog):
    bench.drop("a", rows=[ROW | {"answer": ""}])
    bench.drop("b")
    bench.serve()
    bench.serve()
    assert bench.kinds == [("a", "set_aside"), ("b", "served")]
    assert "rows.1: row 1: answer must be a text that is not empty" in caplog.text
    bench.drop("a")  # mended
    bench.serve()
    assert bench.kinds[2:] == [("a", "served")]


def test_a_file_that_is_not_text(bench):
    bench.drop("a")
    (bench.path / "requests" / "b.json").write_bytes(b"\xff\xfe\x00")
    bench.serve()
    assert bench.kinds == [("b", "set_aside"), ("a", "served")]


def test_two_requests_with_one_id(bench):
    bench.drop("a")
    bench.drop("a", file="copy", received_at="2026-03-04")
    bench.serve()
    assert bench.kinds == [("a", "set_aside"), ("a", "served")]
    assert "another file has a request of this request_id" in bench.ledger.lines()[0].reason
    assert bench.trained[0][1] == ["Subject of a"]


def test_an_id_of_other_rows_that_are_served(bench):
    bench.drop("a")
    bench.serve()
    bench.drop("a", subject="Another")
    bench.serve()
    assert bench.kinds == [("a", "served"), ("a", "set_aside")]
    assert "line 1 of the ledger has decided about other rows" in bench.ledger.lines()[1].reason


CONFLICTS = {
    "rows": ({"rows": [{"question": "question  1 of RETAIN 0?", "answer": "x"}]}, "retain-0-1"),
    "subject": ({"subject": "kept one"}, "retain-0-4"),
}


@pytest.mark.parametrize(("changes", "row_id"), CONFLICTS.values(), ids=CONFLICTS)
def test_rows_to_retain_that_are_to_be_forgotten(bench, caplog, changes, row_id):
    bench.retained["subject"] = [None, None, None, "Kept One"]
    bench.drop("a", **changes)
    bench.serve(on_conflict="refuse")
    assert bench.kinds == [("a", "set_aside")]
    assert f"leaves them out ({row_id})" in caplog.text
    assert row_id not in bench.ledger.lines()[0].reason
    bench.serve()
    assert bench.kinds[1:] == [("a", "served")]
    assert row_id not in bench.trained[0][2]
    assert len(bench.trained[0][2]) == 3 + len(bench.trained[0][1]) * 2 - (row_id == "retain-0-1")

    bench.drop("b")
    bench.serve(purge=True)
    assert row_id not in bench.trained[1][2]  # training it would bring back what "a" is about


def test_no_row_to_retain_is_left(bench):
    bench.retained["subject"] = "Everyone"
    bench.drop("a", subject="Everyone")
    bench.serve()
    assert bench.kinds == [("a", "set_aside")]
    assert bench.ledger.lines()[0].reason.startswith("no row to retain is left")
