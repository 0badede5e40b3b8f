"""Evaluating a TOFU task, against a pass a metric, fixed padding, one sentence at a time.

The models know the rows to retain and not those to forget, as after unlearning: some answers are
the gold ones, others are not, and nearly all of them end.
"""

import published
import pytest
from setups import NLI

from closer_look.generation import generate
from closer_look.judges import BUNDLED_EMBEDDER, embed_references, judge
from closer_look.parameters import FinetuningParameters
from closer_look.scoring import first_choices, given_answers, score
from closer_look.training import finetune

ROWS = {"small_llama": 40, "smollm2": 8}  # of each of the two sets
LEARNING = {
    "small_llama": {"epochs": 80, "learning_rate": 1e-3},
    "smollm2": {"epochs": 12, "learning_rate": 1e-4},
}
BATCH_SIZE = 32
LENGTH = 200


@pytest.fixture
def evaluation(questions, request):
    n_rows = ROWS[request.node.callspec.params["language_model"]]
    return questions.groupby("split").head(n_rows).reset_index(drop=True)


@pytest.fixture
def knowing(language_model, evaluation, loaded, request):
    """The model, after it has learned the rows to retain, once."""
    name = request.node.callspec.params["language_model"]
    if (name, "knowing") not in loaded:
        known = evaluation[evaluation["split"] == "retain"]
        parameters = FinetuningParameters(**LEARNING[name], batch_size=8, warmup_epochs=1, seed=1)
        finetune(language_model, list(known["question"]), list(known["answer"]), parameters)
        loaded[name, "knowing"] = language_model
    return loaded[name, "knowing"]


def test_scores(benchmark, side_by_side, knowing, evaluation):
    answers = given_answers(evaluation)
    benchmark.name = "scores"

    def here():
        score(knowing, list(answers["question"]), list(answers["text"]), BATCH_SIZE)

    side_by_side("evaluation", here, lambda: published.score(knowing, answers, LENGTH))


def test_whole_task(benchmark, side_by_side, knowing, evaluation):
    if not NLI.exists():
        pytest.skip(f"the entailment model is not beside the repository ({NLI})")
    benchmark.name = "scores, answers and judges"
    answers = given_answers(evaluation)
    questions, gold = list(evaluation["question"]), list(evaluation["gold_answer"])

    def here():
        embed_references.cache_clear()  # the references of a run's first evaluation
        scores = score(knowing, list(answers["question"]), list(answers["text"]), BATCH_SIZE)
        hits = list(scores.loc[answers["kind"] == "answer", "token_hits"])
        openings = first_choices(knowing.tokenizer, questions, gold, hits)
        answered = generate(knowing, questions, LENGTH, BATCH_SIZE, openings)
        judge(evaluation[["row_id"]].join(answered), evaluation, BUNDLED_EMBEDDER, str(NLI))
        return answered

    def other():
        for _, rows in evaluation.groupby("split"):
            published.score(knowing, given_answers(rows), LENGTH)
            generated = published.generate(knowing, rows, LENGTH)
            published.judge(generated, list(rows["answer"]), BUNDLED_EMBEDDER, str(NLI))

    answered = side_by_side("evaluation", here, other)
    benchmark.extra_info["answers"] = {
        "gold": (answered["generated"] == evaluation["gold_answer"]).mean(),
        "tokens": answered["n_tokens"].mean(),
        "ended": (answered["stopped_by"] == "eos").mean(),
    }
