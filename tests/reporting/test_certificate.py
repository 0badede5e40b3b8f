"""The page of a certificate says what its file says, on a screen and on paper."""

import json
import re
from html import escape

import pytest

from closer_look.erasure.signing import Envelope, sign
from closer_look.erasure.statement import (
    Asked,
    Certificate,
    Done,
    LedgerEntry,
    Measurement,
    Model,
    Number,
    not_proven,
    write_statement,
)
from closer_look.errors import InputError
from closer_look.reporting.certificate import DECISIONS, render_certificate
from closer_look.reporting.pages import number_text

HASHES = [str(digit) * 64 for digit in range(5)]


def certificate(decision="served", basis="Consent was withdrawn", measured=True, **model):
    number = Number(value=0.8125, low=0.75, high=0.875)
    numbers = [Measurement(name="Forget efficacy", meaning="what is gone", after=number)]
    return Certificate(
        asked=Asked(
            request_id="r-1",
            received_at="2026-03-03",
            basis=basis,
            n_rows=1200,
            rows_sha256=HASHES[0],
        ),
        done=Done(
            decision=decision, reason="It passes.", time="2026-03-04", code_version="1", purged=True
        ),
        model=Model(**{"before": HASHES[1], "after": HASHES[2], "files": {"a": HASHES[3]}} | model),
        measured=numbers if measured else (),
        not_proven=not_proven(decision, [], purged=True),
        ledger=LedgerEntry(index=7, sha256=HASHES[4]),
    )


def page(key_ids=(), **changes):
    envelope = sign(write_statement(certificate(**changes)), None)
    return render_certificate(envelope._replace(key_ids=key_ids), "r-1.json")


def test_all_that_is_certified_is_on_the_page():
    text = page()
    for shown in ("r-1", "2026-03-03", "Consent was withdrawn", "1,200", "It passes.", *HASHES):
        assert shown in text
    assert "0.812 (0.750 to 0.875)" in text
    assert f"{HASHES[3]}  a" in text
    assert all(
        escape(sentence) in text.replace("&#39;", "&#x27;") for sentence in certificate().not_proven
    )
    assert "certificate=r-1.json" in text


@pytest.mark.parametrize("decision", DECISIONS)
def test_the_decision_is_told_in_words(decision):
    title, meaning = DECISIONS[decision]
    text = page(decision=decision)
    assert title in text
    assert meaning in text


def test_it_says_whether_the_file_is_signed():
    assert "<b>Not signed.</b>" in page()
    signed = page(key_ids=("abc123",))
    assert "Not signed" not in signed
    assert "is signed with the key <code>abc123</code>" in signed


def test_what_there_is_none_of_is_said_or_left_out():
    text = page(measured=False, after=HASHES[1])
    assert "Nothing was measured." in text
    assert '<dt>After</dt><dd dir="auto">the same</dd>' in text
    assert "Deadline" not in text
    assert "None" not in text
    assert number_text(None) == ""
    assert number_text(Number(value=0.5).model_dump()) == "0.500"


def test_texts_of_a_request_are_only_text():
    text = page(basis="<script>alert(1)</script>")
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_page_of_something_else_is_refused():
    with pytest.raises(InputError, match="holds no statement"):
        render_certificate(Envelope(json.dumps({}).encode(), (), {}), "r-1.json")


def test_a_browser_shows_it_and_prints_it_on_two_pages_at_most(browser, tmp_path):
    path = tmp_path / "r-1.html"
    path.write_text(page(), encoding="utf-8")
    tab = browser.new_page()
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: asked.append(message.text))
    tab.goto(path.as_uri())
    assert tab.locator("h1").inner_text() == "What was done about the request to forget r-1"
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    for width in (390, 1200):
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    pdf = tab.pdf(prefer_css_page_size=True)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 2
    tab.close()
