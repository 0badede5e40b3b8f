"""Of what the current model knew, the most that any attack gets back of a candidate counts."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from closer_look.data.questions import to_questions
from closer_look.erasure import residual, serving
from closer_look.erasure.residual import residual_knowledge
from closer_look.evaluation import judges
from closer_look.evaluation.attacks.attack import Attack, table
from closer_look.models.language_model import model_fingerprint
from closer_look.parameters.attacks import StressParameters
from closer_look.parameters.evaluation import JudgesParameters, MetricsParameters

FACTS = ["Lund", "Oslo", "Pisa", "Rome"]
ROWS = to_questions(
    [{"question": f"Where is {one}?", "answer": f"In {one}.", "key_fact": one} for one in FACTS],
    "forget",
    "rows",
)


class Model(SimpleNamespace):
    """What a model tells, and what it holds inside."""


def told(model, rows, context):
    lines = rows[["row_id", "question"]].assign(setting="")
    return lines.assign(generated=[one if one in model.tells else "-" for one in rows["key_fact"]])


def inside(model, rows, context):
    return rows[["row_id"]].assign(setting="", recovered=model.holds)


def compared(model, rows, context, target_model):
    return rows[["row_id"]].assign(setting="", recovered=model.holds / target_model.holds)


@pytest.fixture
def found(monkeypatch):
    """Attack a candidate whose current model knew three of four rows."""
    attacks = table(
        Attack(told, "Told", "It is asked."),
        Attack(inside, "Inside", "It is read.", internal=True),
        Attack(compared, "Compared", "It is read beside the other."),
    )
    monkeypatch.setattr(residual, "ATTACKS", attacks)
    monkeypatch.setattr(judges, "cosine_similarity", lambda texts, *_: np.ones(len(texts)))

    def found(*names, knew=(1, 1, 1, 0), answers=(1, 0, 0, 0), tells=(), holds=0.0):
        def load():
            assert not any(one() for one in loaded), "the model of another attack is still held"
            current = Model(tells=(), holds=0.5)
            loaded.append(weakref.ref(current))
            return current

        loaded = []
        metrics = ROWS[["split", "row_id", "task_id"]].assign(rouge=0.0, cosine_similarity=0.0)
        tables = tuple(metrics.assign(entailment=np.array(one, float)) for one in (knew, answers))
        settings = SimpleNamespace(
            erasure=SimpleNamespace(attacks=names),
            attacks={name: {"attack": name} for name in attacks},
            stress=StressParameters(seed=1),
            judges=JudgesParameters(embedder="-", entailment="key_fact"),
            metrics=MetricsParameters(seed=1, resamples=50),
            **dict.fromkeys(["unlearning", "generation", "scoring"]),
        )
        candidate = Model(tells=tells, holds=holds)
        return residual_knowledge(candidate, load, ROWS, tables, settings), len(loaded)

    return found


@pytest.mark.parametrize(
    ("names", "candidate", "value", "attack", "n_loaded"),
    [
        (["told"], {}, 1 / 3, "plain", 0),
        (["told"], {"tells": FACTS[:2]}, 2 / 3, "told", 0),
        (["told", "inside"], {"tells": FACTS[:2], "holds": 0.2}, 2 / 3, "told", 1),
        (["told", "inside"], {"tells": FACTS[:2], "holds": 0.45}, 0.9, "inside", 1),
        (["compared"], {"holds": 0.25}, 0.5 / 0.75, "compared", 1),
        (["compared", "inside"], {"holds": 0.25}, 0.5 / 0.75, "compared", 2),
    ],
)
def test_the_attack_that_gets_back_the_most_counts(
    found, names, candidate, value, attack, n_loaded
):
    numbers, loaded = found(*names, **candidate)
    assert numbers["value"] == pytest.approx(value)
    assert numbers["attack"] == attack
    assert numbers["attacks"] == [name.capitalize() for name in names]
    assert numbers["n_rows"] == 4
    assert 0 <= numbers["low"] <= numbers["value"] <= numbers["high"] <= 1
    assert loaded == n_loaded


def test_it_is_a_share_of_what_the_current_model_knew_and_not_the_candidate(found):
    numbers, _ = found("told", knew=(1, 0, 0, 0), answers=(1, 1, 1, 0))
    assert (numbers["value"], numbers["attack"]) == (1, "plain")


def test_without_anything_known_there_is_no_value(found):
    numbers, _ = found("told", knew=(0, 0, 0, 0), tells=FACTS)
    assert numbers == {"n_rows": 4, "attacks": ["Told"]}


def test_the_gate_gets_the_tables_of_the_current_model_and_of_the_candidate(bench, monkeypatch):
    given = []

    def attacked(candidate, load, questions, tables, settings):
        models = model_fingerprint(candidate), model_fingerprint(load())
        given.append((*models, questions, tables))
        return {"attacks": ["Paraphrase"], "n_rows": 2, "value": 0.5, "attack": "paraphrase"}

    monkeypatch.setattr(serving, "residual_knowledge", attacked)
    bench.drop("a")
    asked = {"attacks": "paraphrase", "attempts": [{}]}
    bench.serve(max_residual_knowledge=0.4, **asked)
    bench.serve(max_residual_knowledge=0.6, **asked)
    refused, served = bench.ledger.lines()
    assert bench.kinds == [("a", "failed"), ("a", "served")]
    assert "erasure.max_residual_knowledge 0.4" in refused.reason
    for candidate, current, questions, tables in given:
        assert candidate != current == served.model_before
        assert questions["task_id"].tolist() == [0] * 4 + [1] * 2
        forgotten = [one.loc[one["task_id"] == 1, "is_gone"].tolist() for one in tables]
        assert forgotten == [[False] * 2, [True] * 2]
    assert given[1][0] == served.model_after
    assert served.numbers["after"]["residual_knowledge"]["value"] == 0.5
