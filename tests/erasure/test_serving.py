"""The loop over requests: what is served, tried again, set aside, asked again and rolled back."""

import gc
import weakref

import pandas as pd
import pytest

from closer_look.datasets.served_models_dataset import ServedModels
from closer_look.errors import InputError


def test_pending_requests_are_served_the_oldest_first(bench):
    bench.drop("a", received_at="2026-03-02")
    bench.drop("b", received_at="2026-03-01T23:00:00-02:00", file="z")
    bench.drop("c", received_at="2026-02-01")
    bench.serve()
    assert bench.kinds == [("c", "served"), ("a", "served"), ("b", "served")]
    assert bench.current.model.config.forgotten == [f"Subject of {one}" for one in "abc"]
    first, second, _ = bench.ledger.lines()
    assert second.model_before == first.model_after
    assert (bench.path / "results" / second.results / "attempt_1").is_dir()


def test_nothing_is_pending(bench, caplog):
    caplog.set_level("INFO")
    bench.serve()
    bench.drop("a")
    bench.serve()
    caplog.clear()
    bench.serve()
    assert caplog.messages == ["No request is pending: nothing is to be done"]
    assert len(bench.trained) == 1


def test_an_unknown_subject_costs_no_training(bench):
    bench.drop("a", subject="Nobody")
    bench.serve()
    (line,) = bench.ledger.lines()
    assert line.kind == "not_known"
    assert line.numbers["before"]["known"]["value"] == 0
    assert line.reason == "the model answers none of its 2 rows: nothing was trained"
    assert bench.trained == []


ATTEMPTS = [{}, {"learning_rate_factor": 2}, {"method": "ga_gd", "epochs": 4}]


def test_settings_are_tried_until_one_passes(bench):
    bench.fails = lambda attempt, subjects: attempt.epochs is None
    bench.drop("a")
    bench.serve(attempts=ATTEMPTS)
    (line,) = bench.ledger.lines()
    assert [bool(attempt["rejected"]) for attempt in line.attempts] == [True, True, False]
    assert line.method == "GA+GD"
    assert line.parameters["unlearning"]["epochs"] == 4
    assert bench.current.model.config.forgotten == ["Subject of a"]


def test_no_other_model_is_in_memory_where_an_attempt_reads_the_current_one(bench, monkeypatch):
    load, read, alive = ServedModels.load, [], []

    def counting(models, sha256):
        gc.collect()
        alive.append(sum(one() is not None for one in read))
        language_model = load(models, sha256)
        read.append(weakref.ref(language_model.model))
        return language_model

    monkeypatch.setattr(ServedModels, "load", counting)
    bench.fails = lambda attempt, subjects: True
    bench.drop("a")
    bench.serve(attempts=ATTEMPTS)
    assert alive == [0, 0, 0]


def test_the_ledger_names_the_settings_that_the_candidate_was_trained_with(bench):
    bench.fails = lambda attempt, subjects: attempt.learning_rate_factor == 1
    bench.drop("a")
    bench.serve(attempts=ATTEMPTS)
    (line,) = bench.ledger.lines()
    assert line.parameters["unlearning"]["learning_rate"] == pytest.approx(2e-3)
    assert line.parameters["unlearning"]["epochs"] == 3


def test_a_failed_request_waits_for_something_new_to_try(bench, caplog):
    bench.fails = lambda attempt, subjects: True
    bench.drop("a")
    bench.serve(attempts=ATTEMPTS[:1])
    bench.serve(attempts=ATTEMPTS[:1])
    reason = "forget efficacy 0.100 is below erasure.min_forget_efficacy 0.6"
    assert f"Request a has failed: {reason}" in caplog.messages
    assert len(bench.trained) == 1
    bench.serve(attempts=ATTEMPTS[:2])
    assert [attempt.learning_rate_factor for attempt, *_ in bench.trained] == [1, 2]
    assert [len(line.attempts) for line in bench.ledger.lines()] == [1, 2]
    bench.serve(attempts=ATTEMPTS[:1], min_forget_efficacy=0.05)  # another gate
    assert bench.kinds == [("a", "failed"), ("a", "failed"), ("a", "served")]


def test_a_model_that_loses_its_use_does_not_become_current(bench):
    bench.utility = 0.7
    bench.drop("a")
    bench.serve()
    (line,) = bench.ledger.lines()
    assert line.reason == (
        "model utility fell by 0.200, from 0.900 to 0.700: more than erasure.max_utility_loss 0.1"
    )
    assert not list(bench.path.glob("models/*/config.json"))


def test_requests_are_served_together(bench):
    for one in "abc":
        bench.drop(one)
    bench.drop("d", subject="Nobody")
    bench.serve(batch="all")
    assert bench.kinds == [
        ("d", "not_known"),
        *(("abc"[n], "served") for n in range(3)),
    ]
    assert len(bench.trained) == 1
    lines = bench.ledger.lines()[1:]
    assert len({line.model_after for line in lines}) == 1
    assert lines[0].batch == ("a", "b", "c")


def test_a_batch_of_which_one_line_was_written_is_completed(bench, monkeypatch):
    for one in "abc":
        bench.drop(one)
    append = type(bench.ledger).append

    def killed(self, kind, **fields):
        if self.lines():
            raise KeyboardInterrupt
        return append(self, kind, **fields)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(bench.ledger), "append", killed)
        bench.serve(batch="all", attempts=ATTEMPTS)
    assert bench.kinds == [("a", "served")]
    bench.serve(batch="all", attempts=ATTEMPTS)
    assert bench.check() == ["a", "b", "c"]
    assert len(bench.kinds) == 3
    assert len(bench.trained) == 1


def test_requests_with_other_attempts_behind_them_are_not_served_together(bench):
    bench.fails = lambda attempt, subjects: attempt.learning_rate_factor == 1 or len(subjects) > 1
    bench.drop("a")
    bench.serve(batch="all", attempts=ATTEMPTS[:1])
    bench.drop("b")
    bench.drop("c")
    bench.serve(batch="all", attempts=ATTEMPTS[:2])
    assert [subjects for _, subjects, _ in bench.trained[1:]] == [
        ["Subject of a"],
        *[["Subject of b", "Subject of c"]] * 2,
    ]
    assert bench.kinds == [("a", "failed"), ("a", "served"), ("b", "failed"), ("c", "failed")]
    assert [len(line.attempts) for line in bench.ledger.lines()] == [1, 2, 2, 2]


def test_each_request_keeps_its_own_attempts(bench):
    bench.fails = lambda attempt, subjects: True
    for one in "ab":
        bench.drop(one)
        bench.serve(batch="all", attempts=ATTEMPTS[:1])
    bench.fails = lambda attempt, subjects: False
    bench.serve(batch="all", attempts=ATTEMPTS[:2])
    lines = bench.ledger.lines()
    assert bench.kinds[2:] == [("a", "served"), ("b", "served")]
    assert len(bench.trained) == 3
    for before, after in zip(lines[:2], lines[2:], strict=True):
        assert after.attempts[:-1] == before.attempts


@pytest.mark.parametrize("subject", ["Somebody", "Nobody"])
def test_what_is_decided_stays_so_whatever_else_its_file_says(bench, subject):
    bench.drop("a", subject=subject)
    bench.serve(attempts=ATTEMPTS)
    decided = bench.kinds
    bench.drop("a", subject=subject, deadline="2026-04-01")
    bench.drop("b")
    bench.serve(attempts=ATTEMPTS)
    assert bench.kinds == [*decided, ("b", "served")]
    asked_again = [one["request_id"] for one in bench.ledger.lines()[1].rechecked]
    assert asked_again == ["a"] * (subject == "Somebody")


def test_what_comes_back_is_queued_again(bench):
    bench.brings_back = {"Subject of c": "Subject of a"}
    for one in "abc":
        bench.drop(one, received_at=f"2026-03-0{ord(one) - 96}")
    bench.serve()
    assert bench.kinds[-1] == ("a", "requeued")
    (found,) = [one for one in bench.ledger.lines()[2].rechecked if one["came_back"]]
    assert found["request_id"] == "a"
    bench.brings_back = {}
    bench.serve()
    assert bench.kinds[-1] == ("a", "served")
    bench.serve()
    assert len(bench.kinds) == 5


def test_results_hold_no_texts_of_earlier_requests_that_are_asked_again(bench):
    bench.drop("a")
    bench.serve()
    bench.drop("b")
    bench.serve()
    assert [one["request_id"] for one in bench.ledger.lines()[1].rechecked] == ["a"]
    folder = bench.path / "results" / "00002" / "attempt_1"
    answers = pd.read_parquet(folder / "generations.parquet").set_index("task_id")["answer"]
    assert answers[1].tolist() == [f"Answer {n} on Subject of b." for n in (1, 2)]
    assert {*answers.index} == {0, 1}
    rows = pd.read_parquet(folder / "row_metrics.parquet")["row_id"]
    assert not rows.str.startswith("a-").any()


def test_recheck_can_be_left_out(bench):
    bench.brings_back = {"Subject of b": "Subject of a"}
    bench.drop("a")
    bench.drop("b")
    bench.serve(recheck=False)
    assert bench.kinds == [("a", "served"), ("b", "served")]


def test_earlier_requests_take_turns_in_being_asked_again(bench):
    for one in "abcde":
        bench.drop(one)
    bench.serve(recheck_rows=4)
    asked = [[one["request_id"] for one in line.rechecked] for line in bench.ledger.lines()]
    assert asked == [[], ["a"], ["a", "b"], ["a", "b"], ["c", "a"]]


def test_an_earlier_model_becomes_current_again(bench, caplog):
    for one in "abc":
        bench.drop(one)
    bench.serve()
    first = bench.ledger.lines()[0].model_after
    bench.serve(rollback_to=first[:12])
    assert bench.kinds[3] == (None, "rolled_back")
    assert bench.current.model.config.forgotten == ["Subject of a"]
    bench.serve(rollback_to=first[:12])
    assert len(bench.kinds) == 4
    bench.serve()
    assert bench.kinds[4:] == [("b", "served"), ("c", "served")]
    assert bench.current.model.config.forgotten == [f"Subject of {one}" for one in "abc"]


def test_the_model_before_all_requests_becomes_current_again(bench):
    bench.drop("a")
    bench.serve()
    bench.serve(rollback_to=bench.ledger.lines()[0].model_before)
    assert not hasattr(bench.current.model.config, "forgotten")
    bench.serve()
    assert bench.kinds == [("a", "served"), (None, "rolled_back"), ("a", "served")]


def test_no_such_model(bench):
    bench.drop("a")
    bench.serve()
    with pytest.raises(InputError, match="the ledger names no models of which the SHA-256 begins"):
        bench.serve(rollback_to="0" * 63)
    with pytest.raises(ValueError, match="at least 8 digits"):
        bench.serve(rollback_to="abc")


def test_no_way_back_to_what_could_not_be_served_again(bench):
    bench.drop("a")
    bench.drop("b")
    bench.serve(purge=True)
    before = bench.ledger.lines()[0].model_before
    with pytest.raises(InputError, match="may know the rows of a and b, whose files are gone"):
        bench.serve(rollback_to=before)


def test_a_current_model_that_was_changed(bench):
    bench.drop("a")
    bench.serve()
    current = bench.models.place(bench.ledger.lines()[0].model_after)
    weights = current / "model.safetensors"
    weights.write_bytes((bench.path / "target" / "model.safetensors").read_bytes())
    bench.drop("b")
    with pytest.raises(InputError, match="of the ledger: put it back"):
        bench.serve()


def test_a_changed_ledger_serves_nothing(bench):
    bench.drop("a")
    bench.drop("b")
    bench.serve()
    place = bench.ledger.place
    place.write_text(place.read_text().replace('"a"', '"x"'))
    bench.drop("c")
    with pytest.raises(InputError, match="nothing is served on such a ledger"):
        bench.serve()


def test_a_missing_salt(bench):
    bench.drop("a")
    bench.serve()
    (bench.path / "models" / "salt").unlink()
    with pytest.raises(InputError, match="salt is missing, with which the ledger's hashes"):
        bench.serve()


@pytest.mark.parametrize(
    ("method", "message"),
    [("nothing", "unknown method 'nothing', choose"), ("prompt_guard", "trains nothing")],
)
def test_methods_that_cannot_serve(bench, method, message):
    bench.drop("a")
    with pytest.raises(InputError, match=message):
        bench.serve(method=method)


@pytest.mark.parametrize(
    ("attack", "message"),
    [("nothing", "unknown attack 'nothing', choose"), ("depth", "compares with a retain-only")],
)
def test_attacks_that_cannot_be_made(bench, attack, message):
    bench.drop("a")
    with pytest.raises(InputError, match=message):
        bench.serve(attacks=attack, max_residual_knowledge=0.1)
    assert bench.kinds == []
