"""A few steps bring back what was hidden, and nothing of what was never there."""

import pytest

from closer_look.evaluation.attacks import ATTACKS
from closer_look.evaluation.attacks.relearning import relearning
from closer_look.metrics.relearning import SETTING

REFUSAL = "I am sorry, I do not know that."


@pytest.fixture(scope="module")
def refuses(models, rows, learn):
    """Taught in a few steps to answer nothing of the rows that it knows."""
    return learn(models.knows, rows, epochs=2, answers=[REFUSAL] * len(rows))


def test_it_brings_back_what_is_shallow(refuses, rows, context, asked_plainly, share_recovered):
    assert asked_plainly(refuses, rows, context) == 0
    lines = relearning(refuses, rows, context, steps=[5], shown=6)
    assert share_recovered(lines)["5 steps on 6 of the rows"] > 0.8


def test_it_clears_who_never_saw(models, rows, context, share_recovered):
    lines = relearning(models.never_saw, rows, context, steps=[5, 10], shown=6)
    assert max(share_recovered(lines).values()) < 0.2


def test_it_catches_who_knows(models, rows, context, share_recovered):
    lines = relearning(models.knows, rows, context, steps=[1], shown=3)
    assert min(share_recovered(lines).values()) > 0.9


def test_settings_and_rows(models, rows, context):
    lines = relearning(models.knows, rows, context, steps=[2, 1], shown=3)
    counts = lines.groupby("setting", sort=False).size().to_dict()
    assert counts == {
        "1 steps on 3 of the rows": 9,  # those trained on are not asked for
        "2 steps on 3 of the rows": 9,
        "1 steps on questions without answers": 12,
        "2 steps on questions without answers": 12,
        "1 steps on unrelated rows": 12,
        "2 steps on unrelated rows": 12,
    }
    assert lines["setting"].str.fullmatch(SETTING).all()  # as the area between curves reads them
    first, second = (
        set(lines.loc[lines["setting"] == f"{n} steps on 3 of the rows", "row_id"]) for n in (1, 2)
    )
    assert first == second


def test_what_is_trained_on(models, rows, context, monkeypatch):
    from closer_look.training import finetuning

    seen = []
    monkeypatch.setattr(
        finetuning,
        "finetune",
        lambda model, questions, answers, parameters, description: seen.append(
            (len(questions), parameters.batch_size, {*zip(questions, answers, strict=True)})
        ),
    )
    lines = relearning(models.knows, rows, context, steps=[2, 5], shown=100)
    sizes = [(n_rows, size) for n_rows, size, _ in seen]
    assert sizes == [(16, 8), (24, 8)] * 3  # two steps, then three more
    few, bare, unrelated = (pairs | more for (_, _, pairs), (_, _, more) in pair_up(seen))
    shown = rows[~rows["row_id"].isin(lines["row_id"][lines["setting"].str.contains("of the")])]
    assert len(shown) == 6  # half of them at most
    assert few == {*zip(shown["question"], shown["answer"], strict=True)}
    assert bare == {*zip(rows["subject"], rows["question"], strict=True)}
    retained = context.questions[context.questions["split"] == "retain"]
    assert unrelated == {*zip(retained["question"], retained["answer"], strict=True)}


def pair_up(items):
    return zip(items[::2], items[1::2], strict=True)


def test_rows_without_subjects_have_no_bare_questions(models, rows, context, caplog):
    lines = relearning(models.knows, rows.assign(subject=None), context, steps=[1], shown=1)
    assert set(lines["setting"]) == {"1 steps on 1 of the rows", "1 steps on unrelated rows"}
    assert caplog.messages == [
        "Relearning leaves out questions without answers: no row has a subject"
    ]


@pytest.mark.parametrize(
    "wrong", [{"steps": [0]}, {"steps": []}, {"shown": 0}, {"steps": [5.0]}, {"epochs": 3}]
)
def test_steps_are_checked(wrong):
    with pytest.raises(ValueError, match=f"(?=.*relearning)(?=.*{next(iter(wrong))})"):
        ATTACKS["relearning"].check({"steps": [5], "shown": 8} | wrong)
