"""Evaluating a TOFU task, against a pass a metric, fixed padding, one sentence at a time."""

import published
import pytest
from setups import NLI

from closer_look.generation import generate
from closer_look.judges import BUNDLED_EMBEDDER, judge
from closer_look.scoring import given_answers, score

ROWS = {"small_llama": 40, "smollm2": 4}  # of each of the two sets
LENGTH = 200


@pytest.fixture
def evaluation(questions, request):
    n_rows = ROWS[request.node.callspec.params["language_model"]]
    return questions.groupby("split").head(n_rows).reset_index(drop=True)


def test_scores(benchmark, side_by_side, language_model, evaluation):
    answers = given_answers(evaluation)
    benchmark.name = "scores"

    def here():
        score(language_model, list(answers["question"]), list(answers["text"]), 32)

    side_by_side("evaluation", here, lambda: published.score(language_model, answers, LENGTH))


def test_whole_task(benchmark, side_by_side, language_model, evaluation):
    if not NLI.exists():
        pytest.skip(f"the entailment model is not beside the repository ({NLI})")
    benchmark.name = "scores, answers and judges"
    answers = given_answers(evaluation)

    def here():
        answered = generate(language_model, list(evaluation["question"]), LENGTH, 32)
        score(language_model, list(answers["question"]), list(answers["text"]), 32)
        judge(evaluation[["row_id"]].join(answered), evaluation, BUNDLED_EMBEDDER, str(NLI))

    def other():
        for _, rows in evaluation.groupby("split"):
            published.score(language_model, given_answers(rows), LENGTH)
            generated = published.generate(language_model, rows, LENGTH)
            published.judge(generated, list(rows["answer"]), BUNDLED_EMBEDDER, str(NLI))

    side_by_side("evaluation", here, other)
