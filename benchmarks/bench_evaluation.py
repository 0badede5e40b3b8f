"""Time of evaluating a TOFU task here, against the published protocol.

The published protocol makes a pass per metric with fixed padding and judges one sentence at a time.
The models know the rows to retain and not those to forget, as after unlearning: some answers are
the gold ones, others are not, and nearly all of them end.
"""

import time
from collections import defaultdict
from statistics import median

import published
import pytest
from setups import NLI

from closer_look.data.questions import given_answers
from closer_look.evaluation.judges import BUNDLED_EMBEDDER, embed_references, judge
from closer_look.inference.generation import generate
from closer_look.inference.scoring import greedy_prefixes, score
from closer_look.parameters.training import FinetuningParameters
from closer_look.training.finetuning import finetune

ROWS = 40  # of forget01, and as many to retain
LEARNING = {
    "small_llama": {"epochs": 80, "learning_rate": 1e-3},
    "smollm2": {"epochs": 12, "learning_rate": 1e-4},
}
SCORED, DECODED = 32, 64  # rows in a pass, as in conf/smollm2
LENGTH = 200


@pytest.fixture
def evaluation(questions):
    return questions.groupby("split").head(ROWS).reset_index(drop=True)


@pytest.fixture
def knowing(language_model, evaluation, loaded, request):
    """Fine-tune the model on the rows to retain, once."""
    name = request.node.callspec.params["language_model"]
    if (name, "knowing") not in loaded:
        known = evaluation[evaluation["split"] == "retain"]
        parameters = FinetuningParameters(**LEARNING[name], batch_size=8, warmup_epochs=1, seed=1)
        finetune(language_model, list(known["question"]), list(known["answer"]), parameters)
        loaded[name, "knowing"] = language_model
    return loaded[name, "knowing"]


@pytest.fixture
def timed(benchmark):
    """Time the parts of the work; their medians are stored with the time of the whole."""
    parts = defaultdict(lambda: defaultdict(list))

    def timed(way, part, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        parts[part][way].append(time.perf_counter() - start)
        return result

    yield timed
    benchmark.extra_info["parts"] = {
        part: {way: median(times[1:]) for way, times in ways.items()}  # the first is a warm-up
        for part, ways in parts.items()
    }


def test_whole_task(benchmark, side_by_side, timed, knowing, evaluation):
    if not NLI.exists():
        pytest.skip(f"the entailment model is missing ({NLI})")
    benchmark.name = "whole task"
    answers = given_answers(evaluation)
    questions, gold = list(evaluation["question"]), list(evaluation["gold_answer"])
    sets = [rows for _, rows in evaluation.groupby("split")]

    def here():
        embed_references.cache_clear()  # the references of a run's first evaluation
        given = list(answers["question"]), list(answers["text"])
        scores = timed("here", "scores", score, knowing, *given, SCORED)
        hits = list(scores.loc[answers["kind"] == "answer", "token_hits"])
        openings = greedy_prefixes(knowing.tokenizer, questions, gold, hits)
        asked = knowing, questions, LENGTH, DECODED, openings
        answered = timed("here", "answers", generate, *asked)
        table = evaluation[["row_id"]].join(answered)
        timed("here", "judges", judge, table, evaluation, BUNDLED_EMBEDDER, str(NLI))
        return answered

    def other():
        def score_all():
            for rows in sets:
                published.score(knowing, given_answers(rows), LENGTH)

        def answer_all():
            return [published.generate(knowing, rows, LENGTH) for rows in sets]

        def judge_all(answered):
            for texts, rows in zip(answered, sets, strict=True):
                published.judge(texts, list(rows["answer"]), BUNDLED_EMBEDDER, str(NLI))

        timed("published", "scores", score_all)
        timed("published", "judges", judge_all, timed("published", "answers", answer_all))

    answered = side_by_side("evaluation", here, other)
    benchmark.extra_info["answers"] = {
        "gold": (answered["generated"] == evaluation["gold_answer"]).mean(),
        "tokens": answered["n_tokens"].mean(),
        "ended": (answered["stopped_by"] == "eos").mean(),
    }
