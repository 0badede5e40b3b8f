"""After a purge nothing holds the texts of a request but the rows that it came from."""

import json
import re
from html import escape

import pandas as pd
import pytest

from closer_look.erasure import purge
from closer_look.erasure.book import Book
from closer_look.erasure.purge import find_texts
from closer_look.erasure.salt import read_salt


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


def test_questions_in_other_words_and_key_facts_are_searched_for(bench, caplog):
    other = {"paraphrased_question": "Who, pray, is this?", "key_fact": "a botanist of Ghent"}
    other |= {"related": [{"question": "Which botanist is from Ghent?"}]}
    row = {"question": "Who is Subject of a?", "answer": "She is a botanist of Ghent."}
    bench.drop("a", rows=[row | other])
    texts = other | {"related": other["related"][0]["question"]}
    for name, text in texts.items():
        (bench.path / f"{name}.txt").write_text(text, encoding="utf-8")
    bench.serve(purge=True)
    for name in other:
        assert f"{name}.txt still holds texts of request a" in caplog.text


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
    reason = bench.ledger.lines()[1].reason
    assert "so nothing was searched for its rows" in reason
    assert "its file" not in reason


def test_a_purge_that_was_killed_in_its_search_searches_again(bench, monkeypatch):
    bench.drop("a")
    (bench.path / "copy.txt").write_text("Answer 1 on Subject of a.", encoding="utf-8")

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("closer_look.erasure.purge.find_texts", killed)
        bench.serve(purge=True)
    bench.serve(purge=True)
    assert bench.kinds == [("a", "served"), ("a", "purged")]
    assert "1 other files of the artefacts hold them" in bench.ledger.lines()[1].reason


def test_files_that_cannot_be_searched_are_named_and_the_others_searched(bench, caplog):
    bench.drop("a")
    (bench.path / "damaged.parquet").write_bytes(b"no table")
    rows = pd.DataFrame({"text": ["Answer 1 on Subject of a.", "x"]}, index=[0, 0])
    rows.to_parquet(bench.path / "twice.parquet")
    bench.serve(purge=True)
    assert "damaged.parquet could not be searched (" in caplog.text
    assert "twice.parquet still holds texts of request a" in caplog.text
    assert bench.ledger.lines()[1].reason == (
        "its file and the texts of its results are deleted; 1 other files of the artefacts hold "
        "them, which the log names; 1 other files of the artefacts could not be searched, which "
        "the log names"
    )


def test_artefacts_at_a_url_are_not_searched_and_the_ledger_says_so(bench, monkeypatch):
    bench.drop("a")
    bench.serve()
    monkeypatch.setattr(purge, "find_texts", lambda *_: pytest.fail("something was searched"))
    salt = read_salt(bench.models.folder, is_new=False)
    book = Book(bench.ledger, bench.path / "results", salt)
    purge.purge(book, bench.files, None)
    assert [*bench.files] == []
    assert bench.kinds == [("a", "served"), ("a", "purged")]
    assert bench.ledger.lines()[1].reason == (
        "its file and the texts of its results are deleted; other files were not searched"
    )


def test_a_file_that_was_edited_after_it_was_served_is_deleted_too(bench):
    bench.drop("a")
    bench.drop("b")
    bench.serve()
    bench.drop("a", deadline="2026-04-01")
    bench.drop("b", deadline="soon")
    bench.serve(purge=True)
    assert bench.kinds[2:] == [("b", "set_aside"), ("a", "purged")]
    assert [*bench.files] == ["b"]


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


def test_texts_are_found_in_pages(tmp_path):
    text = "What is Ilse Marwood's <first> profession?"
    (tmp_path / "a.html").write_text(f"<p>{escape(text)}</p>", encoding="utf-8")
    tokens = "".join(f"<bdi>{escape(part)}</bdi><wbr>" for part in re.findall(r"\s?\w+|.", text))
    (tmp_path / "b.html").write_text(tokens, encoding="utf-8")
    (tmp_path / "c.html").write_text("<p>another text</p>", encoding="utf-8")
    assert [path.name for path in find_texts(tmp_path, [text])] == ["a.html", "b.html"]
