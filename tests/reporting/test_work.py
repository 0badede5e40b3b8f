"""How much a run is, counted by hand: two tasks, and two rows of each that are evaluated."""

from types import SimpleNamespace

import pytest
import torch

from closer_look.reporting import work
from closer_look.reporting.work import FINETUNING, Shape, disk_of, work_of

FOUND = {
    FINETUNING: SimpleNamespace(
        tokens=100, flops=1000, reference_tokens=0, saved=0, stored=0, checkpoint=9
    ),
    "ME+GD": SimpleNamespace(
        tokens=10, flops=100, reference_tokens=0, saved=10, stored=0, checkpoint=11
    ),
    "NPO+GD": SimpleNamespace(
        tokens=20, flops=200, reference_tokens=7, saved=20, stored=3, checkpoint=10
    ),
}


@pytest.fixture
def shape():
    def shape(seeds=(None,), alternates=None, **experiment):
        given = {"n_tasks": 2, "each_seed": seeds, "seed_target": False, "retain_only": None}
        given |= {"models": None, "finetuning": True}
        plain = SimpleNamespace(alternates=None, instruction=None)
        other = SimpleNamespace(alternates=alternates, instruction=None)
        one, two = (SimpleNamespace(workers=n) for n in (1, 2))
        return Shape(
            experiment=SimpleNamespace(**given | experiment),
            base_model=SimpleNamespace(small_llama="given"),
            prompt=None,
            forget_set=SimpleNamespace(evaluation_rows=2, evaluated_splits=None),
            finetuning=one,
            unlearning=two,
            scoring=two,
            generation=one,
            methods={"me_gd": plain, "npo_gd": other},
        )

    return shape


@pytest.fixture
def counted(shape, make_questions, monkeypatch):
    """The work of a run: a token is a word of an answer, or a whole question."""
    monkeypatch.setattr(
        work,
        "encode",
        lambda _, questions, texts: [
            [question, *text.split()] for question, text in zip(questions, texts, strict=True)
        ],
    )
    monkeypatch.setattr(
        work,
        "pack",
        lambda rows: {"own_lengths": [len(row) - (n > 0) for n, row in enumerate(rows)]},
    )
    monkeypatch.setattr(work.needs, "forward_flops", lambda build, encoded: 2.0)
    # A row to forget is 3 tokens; one to retain is 3 to generate, and 6 to score.
    questions = make_questions(("forget", 1, 3), ("forget", 2, 3), ("retain", 0, 3))
    wrong = [["a b c"] if split == "retain" else [] for split in questions["split"]]
    questions = questions.assign(wrong_answers=wrong)
    return lambda *given, **own: work_of(shape(*given, **own), FOUND, None, None, questions)


GENERATED = (2 + 2) * 3 + (2 + 2 + 2) * 3  # by a method, after the first task and the second
SCORED = 2 * 3 + 2 * 6 + (2 + 2) * 3 + 2 * 6
GENERATED_ONCE, SCORED_ONCE = 6 * 3, 4 * 3 + 2 * 6  # by a model that is measured on all rows once


@pytest.mark.parametrize(
    ("given", "n_chains", "n_seeds", "n_once", "n_finetuned"),
    [
        ({}, 2, 1, 1, 1),
        ({"seeds": (1, 2)}, 4, 2, 1, 1),
        ({"seeds": (1, 2), "seed_target": True}, 4, 2, 1, 2),
        ({"retain_only": "finetuned"}, 2, 1, 2, 2),
        ({"retain_only": "scores"}, 2, 1, 1, 1),
        ({"models": ["theirs"]}, 2, 1, 2, 1),
    ],
)
def test_tokens_are_those_of_every_model_and_seed(
    counted, given, n_chains, n_seeds, n_once, n_finetuned
):
    found = {kind: one["tokens"] for kind, one in counted(**given).items()}
    assert found == {
        "train": 100 * n_finetuned + (10 + 20) * n_seeds,
        "score": n_chains * SCORED + n_once * SCORED_ONCE + 7 * n_seeds,
        "generate": n_chains * GENERATED + n_once * GENERATED_ONCE,
    }


def test_alternates_are_generated_for_each_seed_and_row_to_forget(counted):
    plain, asked = (
        counted((1, 2), alternates)["generate"]["tokens"]
        for alternates in (None, SimpleNamespace(per_row=5))
    )
    assert asked - plain == 2 * 5 * 6 * 3


def test_arithmetic_is_shared_out_among_the_workers_of_a_stage(counted):
    found = counted((1, 2))
    train, score, generate = (found[kind] for kind in ("train", "score", "generate"))
    assert (train["flops"], train["of_device"]) == (1000 + 2 * 300, 1000 + 2 * 300 // 2)
    assert (score["flops"], score["of_device"]) == (2 * score["tokens"], score["tokens"])
    assert generate["flops"] == generate["of_device"] == 2 * generate["tokens"]


def test_models_states_and_tables_on_the_disk(shape):
    model = SimpleNamespace(parameters=lambda: [torch.zeros(5)])  # 20 bytes
    tokens = {"score": {"tokens": 30}, "generate": {"tokens": 4}}
    found = disk_of(shape((1, 2)), FOUND, tokens, lambda: model)
    assert found == {
        "models": 2 * 2 * (10 + 20) + 20 + 20,  # tasks and seeds; base and target
        "reference": 2 * 3,
        "checkpoint": 11,
        "tables": 9 * 34,
    }
