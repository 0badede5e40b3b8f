"""Tuning: trials unlearn copies of the target model and are measured on validation rows."""

import copy
import gc
import weakref

import pandas as pd
import pytest
import torch

from closer_look.errors import InputError
from closer_look.evaluation import measurement, tuning
from closer_look.evaluation.study import Outcome
from closer_look.evaluation.tuning import TuningContext, tune
from closer_look.models.language_model import LanguageModel, model_fingerprint
from closer_look.parameters.evaluation import (
    GenerationParameters,
    JudgesParameters,
    ScoringParameters,
)
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import LoraParameters, UnlearningParameters
from closer_look.parameters.tuning import TuningParameters
from closer_look.training.reference_scores import ReferenceCache

SPACE = {"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
SPACE |= {"epochs": {"low": 2, "high": 3}}
NPO = {"label": "NPO+GD", "forget": {"loss": "npo", "beta": 0.1}}
NPO |= {"retain": {"loss": "gradient_descent"}}
NPO |= {"space": {"forget.beta": {"low": 0.05, "high": 0.5}}}


@pytest.fixture(autouse=True)
def judge(monkeypatch):
    """In place of an embedding model: all answers are alike."""

    def judge(generations, evaluation, *models):
        return evaluation[["split", "row_id"]].assign(
            cosine_similarity=0.5, entailment=float("nan")
        )

    monkeypatch.setattr(measurement, "judge", judge)


@pytest.fixture
def target(language_model):
    return LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 4), ("forget", 2, 4), ("retain", 0, 4))


@pytest.fixture
def tuned(target, questions, tmp_path):
    """Tune a method; the tuned one, the trials, and the model that they started from."""

    def tuned(method=NPO, reference="previous", model=target, lora=None, **changes):
        settings = {"trials": 3, "seed": 1, "space": SPACE} | changes
        context = TuningContext(
            questions,
            ["No."],
            reference,
            "per_epoch",
            UnlearningParameters(
                learning_rate=5e-3, epochs=2, batch_size=2, warmup_epochs=0, lora=lora, seed=7
            ),
            GenerationParameters(max_length=44, batch_size=8),
            ScoringParameters(batch_size=8),
            JudgesParameters(embedder="none", entailment=None),
            TuningParameters.model_validate(settings),
            settings.get("n_tasks", 1),
            ReferenceCache(tmp_path / "cache"),
        )
        validation = questions.iloc[[0, 4, 8, 9]]
        return tune(
            model,
            validation,
            MethodParameters.model_validate(method),
            context,
            tmp_path / "studies",
        )

    return tuned


def test_method_gets_the_settings_of_the_best_trial(tuned, target):
    before = model_fingerprint(target)
    method, trials = tuned()
    best = trials[trials["is_best"]].iloc[0]
    assert (method.learning_rate, method.epochs) == (best["learning_rate"], best["epochs"])
    assert method.forget.hyperparameters == {"beta": best["forget.beta"]}
    assert method.space == {}
    first = trials.iloc[0]
    assert (first["learning_rate"], first["epochs"], first["forget.beta"]) == (5e-3, 2, 0.1)
    assert trials["forget_efficacy"].nunique() == 3
    assert model_fingerprint(target) == before


def test_what_is_not_searched_is_the_methods_own_from_then_on(tuned):
    method, _ = tuned(space={"learning_rate": SPACE["learning_rate"]}, trials=1)
    assert (method.learning_rate, method.epochs) == (5e-3, 2)


def test_study_of_a_loss_with_other_code_is_not_taken_up(tuned, tmp_path, monkeypatch):
    tuned(trials=1)
    (first,) = (tmp_path / "studies").iterdir()
    monkeypatch.setattr(tuning, "code_hash", lambda code: f"another {code.__name__}")
    tuned(trials=1)
    (second,) = (tmp_path / "studies").iterdir()
    assert first != second


def test_only_validation_rows_are_looked_at(tuned, monkeypatch):
    asked, scored, score = [], [], tuning.score

    def measure(model, evaluation, *settings):
        asked.append(list(evaluation["row_id"]))
        return measurement.measure(model, evaluation, *settings)

    def scoring(model, questions, *given):
        scored.append(questions)
        return score(model, questions, *given)

    monkeypatch.setattr(tuning, "measure", measure)
    monkeypatch.setattr(tuning, "score", scoring)
    tuned(trials=1)
    assert asked == 2 * [["forget-1-1", "retain-0-1", "retain-0-2"]]
    rows = ["1 of forget 1", "1 of retain 0", "2 of retain 0"]
    assert scored == 2 * [[f"Question {row}?" for row in rows]]


def test_a_trial_has_to_keep_a_share_of_the_utility_of_the_target_model(tuned, monkeypatch):
    given = {}
    monkeypatch.setattr(tuning, "_outcome", lambda *_: Outcome(0.8, 0.1))
    monkeypatch.setattr(tuning, "run_study", lambda *_, **own: (given.update(own) or {}, None))
    tuned(min_utility=0.75)
    assert given["least_utility"] == pytest.approx(0.6)


@pytest.mark.parametrize("reference", ["previous", "first"])
def test_trials_may_unlearn_several_tasks(tuned, monkeypatch, reference):
    scored = []

    def reference_scores(model, plan, *given):
        scored.append((model_fingerprint(model), plan["forget_row_id"].iloc[0][:8]))
        return real(model, plan, *given)

    real = tuning.reference_scores
    monkeypatch.setattr(tuning, "reference_scores", reference_scores)
    tuned(n_tasks=2, trials=1, reference=reference)
    (first, task), (second, other) = scored
    assert (task, other) == ("forget-1", "forget-2")
    assert (first == second) == (reference == "first")


def test_interrupted_tuning_goes_on_with_the_same_trials(tuned, monkeypatch):
    whole = tuned(trials=3)[1]
    unlearn, calls = tuning.unlearn, []

    def killed(*given, **options):
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return unlearn(*given, **options)

    monkeypatch.setattr(tuning, "unlearn", killed)
    with pytest.raises(KeyboardInterrupt):
        tuned(trials=3, seed=2)  # another study: that of before is deleted
    again = tuned(trials=3, seed=2)[1]
    assert len(calls) == 3 + 1
    pd.testing.assert_frame_equal(tuned(trials=3, seed=2)[1], again)
    assert len(calls) == 3 + 1
    pd.testing.assert_frame_equal(tuned(trials=3)[1], whole)
    assert len(calls) == 3 + 1 + 3


def test_trial_whose_loss_is_not_finite_counts_as_failed(tuned, monkeypatch):
    unlearn, calls = tuning.unlearn, []

    def diverging(model, *given, **options):
        calls.append(None)
        if len(calls) == 2:
            with torch.no_grad():
                next(model.model.parameters()).fill_(torch.nan)
        return unlearn(model, *given, **options)

    monkeypatch.setattr(tuning, "unlearn", diverging)
    _, trials = tuned()
    assert list(trials["state"]) == ["complete", "failed", "complete"]
    assert "nan" in trials["reason"][1]


def test_weights_that_are_not_finite_are_not_measured(tuned, monkeypatch):
    def broken(model, *given, **options):
        with torch.no_grad():
            next(model.model.parameters())[0, 0] = torch.inf
        return model, None

    monkeypatch.setattr(tuning, "unlearn", broken)
    with pytest.raises(InputError, match="the weights are not finite"):
        tuned(trials=1)


def test_a_trial_that_has_no_room_fails_alone_once_the_one_before_is_gone(tuned, monkeypatch):
    deepcopy, copies, alive = copy.deepcopy, [], []

    def full(model, *given):
        if not isinstance(model, torch.nn.Module):
            return deepcopy(model, *given)
        alive.append(sum(one() is not None for one in copies))
        if len(alive) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        copied = deepcopy(model, *given)
        copied.itself = [copied]  # as after a training in bf16
        copies.append(weakref.ref(copied))
        return copied

    monkeypatch.setattr(tuning.copy, "deepcopy", full)
    monkeypatch.setattr(tuning, "unlearn", lambda model, *given, **options: (model, None))
    gc.collect()
    gc.disable()
    try:
        _, trials = tuned()
    finally:
        gc.enable()
    assert trials["state"].tolist() == ["complete", "failed", "complete"]
    assert trials["reason"][1].startswith("out of memory: the weights of a trial do not fit on")
    assert alive == [0, 0, 0]


def test_adapters_are_tuned_too(tuned, target):
    _, trials = tuned(lora=LoraParameters(rank=2), trials=2)
    assert trials["state"].eq("complete").all()
    assert not any("lora" in name for name, _ in target.model.named_parameters())


def test_alternate_answers_are_made_for_the_trials(tuned, monkeypatch):
    def make_alternates(model, rows, *settings):
        lines = [{"row_id": row_id, "number": 1, "alternate": "Other"} for row_id in rows["row_id"]]
        return pd.DataFrame(lines)

    monkeypatch.setattr(tuning, "make_alternates", make_alternates)
    altpo = {"forget": {"loss": "altpo", "beta": 0.1}, "alternates": {}}
    _, trials = tuned(NPO | altpo, trials=1)
    assert list(trials["state"]) == ["complete"]


@pytest.mark.parametrize("objective", ["forget_efficacy", "harmonic_mean"])
def test_halfway_what_keeps_and_forgets_more_stands_better(objective):
    settings = TuningParameters.model_validate({"seed": 1, "space": SPACE, "objective": objective})
    before = {"forget": 0.9, "retain": 0.8}

    def standing(retain, forget):
        return tuning._standing(before, {"forget": forget, "retain": retain}, settings)

    assert standing(0.8, 0.2) > standing(0.8, 0.5) > standing(0.4, 0.5) > standing(0.3, 0.5)
    keeps_enough = standing(0.8, 0.8) > standing(0.7, 0.1)
    assert keeps_enough == (objective == "forget_efficacy")


def test_trials_are_looked_at_halfway_but_not_what_subtracts_in_the_end(tuned, monkeypatch):
    looked, steps, epochs = [], [], []
    attempt, unlearn = tuning._attempt, tuning.unlearn

    def attempted(*given):
        *others, look = given

        def seen(step, standing):
            steps.append(step)
            look(step, standing)

        return attempt(*others, seen)

    def unlearned(*given, after_epoch=None, **options):
        def ended(model, epoch):
            before = len(looked)
            after_epoch(model, epoch)
            epochs.extend([epoch] * (len(looked) - before))

        return unlearn(*given, after_epoch=after_epoch and ended, **options)

    monkeypatch.setattr(tuning, "_standing", lambda *given: looked.append(given) or 0.5)
    monkeypatch.setattr(tuning, "_attempt", attempted)
    monkeypatch.setattr(tuning, "unlearn", unlearned)
    tuned(NPO | {"epochs": 3}, trials=2, space={"learning_rate": SPACE["learning_rate"]})
    assert (len(looked), steps, epochs) == (2, [0, 0], [2, 2])
    looked.clear()
    tuned(trials=1, n_tasks=2)
    assert len(looked) == 2  # halfway through the first task, and after it
    assert (steps[2:], epochs[2:]) == ([0, 1], [1])
    looked.clear()
    vector = {"label": "V", "forget": {"loss": "gradient_descent"}, "task_vector_scale": 1.0}
    tuned(vector, trials=1)
    assert looked == []
