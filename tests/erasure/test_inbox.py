"""Requests that the model or the judges cannot read are set aside, and block nobody."""

import pytest

from closer_look.erasure.inbox import UNFIT, check_texts
from closer_look.evaluation import judges
from closer_look.parameters.evaluation import GenerationParameters, JudgesParameters

ROW = {"question": "Who is it?", "answer": "A botanist of Ghent.", "key_fact": "botanist"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"answer": "A botanist of Ghent." * 100}, "tokens"),
        ({"key_fact": None}, "has no key_fact, which parameter judges.entailment needs"),
    ],
)
def test_requests_that_cannot_be_read_are_set_aside(bench, monkeypatch, caplog, change, fault):
    monkeypatch.setattr(judges, "load_embedder", lambda name: None)
    settings = (
        GenerationParameters(max_length=64, batch_size=4),
        JudgesParameters(embedder="none", entailment="key_fact"),
    )
    bench.checks = lambda inbox: check_texts(inbox, bench.current, *settings)
    bench.drop("a", rows=[ROW | change])
    bench.drop("b", rows=[ROW])
    bench.serve()
    assert bench.kinds == [("a", "set_aside"), ("b", "served")]
    assert bench.ledger.lines()[0].reason == UNFIT
    assert fault in caplog.text
    assert "Ghent" not in bench.ledger.place.read_text("utf-8")
