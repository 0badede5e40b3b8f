"""A candidate: the settings of its training, and what counts as known of its rows."""

import pandas as pd
import pytest

from closer_look.data.questions import to_questions
from closer_look.erasure import candidates
from closer_look.erasure.candidates import Settings, measure, unlearn
from closer_look.parameters.erasure import AttemptParameters, ErasureParameters
from closer_look.parameters.evaluation import (
    GenerationParameters,
    JudgesParameters,
    MetricsParameters,
    ScoringParameters,
)
from closer_look.parameters.experiment import ForgetSetParameters
from closer_look.parameters.training import UnlearningParameters


@pytest.fixture
def settings(shipped_methods):
    """Settings of a service whose judge is ``entailment``."""

    def settings(entailment=None, methods=shipped_methods):
        gate = {"method": "me_gd", "min_forget_efficacy": 0.6, "max_utility_loss": 0.1}
        return Settings(
            ErasureParameters.model_validate(gate),
            methods,
            UnlearningParameters(learning_rate=1e-3, epochs=3, batch_size=2, seed=5),
            ForgetSetParameters(evaluation_rows=2, min_rouge=0.7, seed=1),
            GenerationParameters(max_length=64, batch_size=4),
            ScoringParameters(batch_size=4),
            JudgesParameters(embedder="none", entailment=entailment),
            MetricsParameters(seed=1, resamples=10),
            attacks={},
            stress=None,
        )

    return settings


ANSWERS = {  # what a model says for "a b c d" -> whether the judge finds the fact in it
    "a b c d": True,
    "a b c": False,
    "x d": True,
    "y": False,
}


@pytest.mark.parametrize(("entailment", "known"), [("key_fact", 1 / 4), (None, 2 / 4)])
def test_a_row_is_known_whose_answer_has_the_words_and_the_fact(
    settings, monkeypatch, entailment, known
):
    line = {"question": "q", "answer": "a b c d", "key_fact": "d"}
    rows = to_questions([line] * 4, "forget", "rows")
    rows = pd.concat([rows, rows[:1].assign(split="retain", task_id=0)])
    said = [*ANSWERS, "a b c d"]
    judged = [*ANSWERS.values(), True] if entailment else float("nan")
    keys = ["split", "row_id"]

    def scored(model, rows, scoring):
        columns = {"kind": "answer", "nll": 1.0, "n_tokens": 2}
        return rows[keys].assign(**columns, token_hits=[[True, True]] * len(rows))

    def generated(model, rows, scores, generation):
        columns = {"reference": "a b c d", "generated": said, "n_tokens": 4, "token_entropy": 1.0}
        return rows[[*keys, "task_id"]].assign(**columns)

    monkeypatch.setattr(candidates, "score_answers", scored)
    monkeypatch.setattr(candidates, "generate_answers", generated)
    monkeypatch.setattr(
        candidates,
        "judge",
        lambda *_: rows.reset_index()[keys].assign(cosine_similarity=0.5, entailment=judged),
    )
    found = measure(None, rows, settings(entailment))
    assert found.known == {1: {"value": known, "n_rows": 4}}
    assert found.of(1)["known"]["value"] == known


@pytest.mark.parametrize(("own", "expected"), [({}, 2e-3), ({"learning_rate": 3e-3}, 6e-3)])
def test_the_factor_multiplies_the_learning_rate_of_the_method(
    settings, shipped_methods, own, expected
):
    methods = {"me_gd": shipped_methods["me_gd"] | own}
    method, training = settings(methods=methods).of(AttemptParameters(learning_rate_factor=2))
    assert method.learning_rate == training.learning_rate == pytest.approx(expected)
    assert training.epochs == 3


def test_alternates_are_made_of_the_request_and_stand_in_the_plan(
    settings, make_questions, monkeypatch
):
    from closer_look.training import alternates, reference, unlearning

    asked = []

    def make_alternates(model, rows, parameters, max_length, seed):
        asked.append((model, [*rows["row_id"]], parameters.per_row, max_length, seed))
        numbered = [(row_id, n, f"{row_id}, {n}") for row_id in rows["row_id"] for n in (1, 2)]
        return pd.DataFrame(numbered, columns=["row_id", "number", "alternate"])

    monkeypatch.setattr(alternates, "make_alternates", make_alternates)
    monkeypatch.setattr(reference, "reference_scores", lambda *_: None)
    monkeypatch.setattr(unlearning, "unlearn", lambda model, plan, *_, **options: (model, plan))
    questions = make_questions(("retain", 0, 4), ("forget", 1, 2))
    attempt = AttemptParameters(method="altpo_gd")
    _, plan = unlearn("model", questions, ["No."], attempt, settings(), number=1)
    assert asked == [("model", ["forget-1-1", "forget-1-2"], 5, 64, 5)]
    numbers = (plan["epoch"] - 1) % 2 + 1
    assert plan["alternate"].tolist() == [
        f"{row_id}, {n}" for row_id, n in zip(plan["forget_row_id"], numbers, strict=True)
    ]
    assert {*plan["epoch"]} == {1, 2, 3}
