"""After a purge nothing holds the texts of a request but the rows that it came from."""

import json

import pandas as pd
import pytest

from closer_look.erasure.purge import find_texts


def holders(bench, text):
    return [path.relative_to(bench.path).as_posix() for path in find_texts(bench.path, [text])]


def test_no_file_holds_what_was_served(bench):
    bench.drop("a")
    bench.drop("b", subject="Nobody")
    bench.serve()
    text = "Answer 1 on Subject of a."
    made = ["requests/a.json", "results/00001/attempt_1/generations.parquet"]
    assert holders(bench, text) == [*made, "results/00001/before/generations.parquet"]
    bench.serve(purge=True)
    assert bench.kinds[2:] == [("a", "purged"), ("b", "purged")]
    assert "no other file of the artefacts holds them" in bench.ledger.lines()[2].reason
    for path in bench.path.rglob("*"):
        if path.is_file():
            assert b"Subject of" not in path.read_bytes() or path.name == "config.json", path
            assert b"Answer 1" not in path.read_bytes()
    bench.serve(purge=True)
    assert len(bench.kinds) == 4


def test_files_that_still_hold_texts_are_named(bench, caplog):
    bench.drop("a")
    rows = [{"question": "x", "answer": "Answer 2 on Subject of a."}]
    pd.DataFrame(rows).to_parquet(bench.path / "questions.parquet")
    (bench.path / "corpus.jsonl").write_text(json.dumps(rows), encoding="utf-8")
    bench.serve(purge=True)
    assert "corpus.jsonl still holds texts of request a" in caplog.text
    assert "questions.parquet still holds texts of request a" in caplog.text
    assert "2 other files" in bench.ledger.lines()[1].reason


def test_a_request_that_failed_is_not_purged(bench):
    bench.fails = lambda attempt, subjects: True
    bench.drop("a")
    bench.serve(purge=True)
    assert bench.kinds == [("a", "failed")]
    assert [*bench.files] == ["a"]


def test_a_purge_that_was_killed_goes_on(bench, monkeypatch):
    bench.drop("a")
    bench.serve()
    append = type(bench.ledger).append

    def killed(self, kind, **fields):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(bench.ledger), "append", killed)
    with pytest.raises(KeyboardInterrupt):
        bench.serve(purge=True)
    assert [*bench.files] == []
    monkeypatch.setattr(type(bench.ledger), "append", append)
    bench.serve(purge=True)
    assert bench.kinds == [("a", "served"), ("a", "purged")]


def test_a_purged_request_that_comes_once_more_is_not_served_again(bench):
    bench.drop("a")
    bench.serve(purge=True)
    bench.drop("a")
    bench.serve(purge=True)
    assert [kind for _, kind in bench.kinds] == ["served", "purged", "purged"]
    assert len(bench.trained) == 1
    assert [*bench.files] == []


def test_texts_are_found_as_json_and_parquet_write_them(tmp_path):
    text = "Ünnützer Satz / mit Strich."
    (tmp_path / "a.json").write_text(json.dumps([text]), encoding="utf-8")
    (tmp_path / "b.txt").write_text(text, encoding="utf-8")
    pd.DataFrame({"list": [[text]]}).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_text("another text", encoding="utf-8")
    found = [path.name for path in find_texts(tmp_path, [text, "short"])]
    assert found == ["a.json", "b.txt", "c.parquet"]
