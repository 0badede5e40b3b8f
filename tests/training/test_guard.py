"""A task ends where its losses pass a bound, and goes back to weights that kept below it."""

import logging

import pytest
import torch

from closer_look.losses import FORGET, RETAIN, Loss
from closer_look.parameters.training import LoraParameters, UnlearningParameters
from closer_look.training import trainer
from closer_look.training.guard import Guard

FALLING = [0, -1, -2, -3, -4, -5]  # two steps an epoch
LOW = [1, 1, 1, 1, 1, 1]


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 4), ("retain", 0, 4))


@pytest.fixture
def weights(monkeypatch):
    """Weights before the first step, after the first, and so on."""
    seen, compute_loss = [], trainer._Trainer.compute_loss

    def watched(self, model, *args, **kwargs):
        seen.append(trained(model))
        return compute_loss(self, model, *args, **kwargs)

    monkeypatch.setattr(trainer._Trainer, "compute_loss", watched)
    return seen


@pytest.fixture
def with_losses(monkeypatch, unlearn, questions, weights, caplog):
    """Unlearn with losses that are written down here; the weights, the log and what was said."""

    def with_losses(forget, retain, *args, **options):
        for losses, name, values in (
            (FORGET, "gradient_ascent", iter(forget)),
            (RETAIN, "gradient_descent", iter(retain)),
        ):
            monkeypatch.setitem(losses, name, Loss(written_down(values), "X", ""))
        weights.clear()
        caplog.clear()
        with caplog.at_level(logging.INFO, "closer_look"):
            result = unlearn(questions, "gradient_ascent", "gradient_descent", *args, **options)
        return trained(result[0].model), result[1], [*caplog.messages]

    return with_losses


def written_down(values):
    def loss(logits, labels):
        return next(values) + (logits.sum() - logits.sum().detach())

    return loss


def trained(model):
    return torch.cat([w.detach().flatten() for w in model.parameters() if w.requires_grad])


def test_nothing_ends_a_task_where_no_bound_is_given(with_losses):
    _, log, said = with_losses(FALLING, [9e9] * 6)
    assert len(log) == 6
    assert log["in_model"].all()
    assert said == []


def test_task_ends_after_the_step_whose_forget_loss_is_below_stop_when(with_losses, weights):
    model, log, said = with_losses(FALLING, LOW, stop_when=-1)
    assert said == [
        "Unlearning: forget loss -2 at step 3 of 6 is below stop_when -1; the task ends there"
    ]
    assert list(log["forget_loss"]) == [0, -1, -2]
    assert log["in_model"].all()
    assert not model.equal(weights[2])  # the step was made


def test_a_method_has_bounds_of_its_own(with_losses):
    _, log, _ = with_losses(FALLING, LOW, own={"stop_when": -3.5}, stop_when=-1)
    assert len(log) == 5
    _, log, _ = with_losses(FALLING, [*LOW[:3], 3, 3, 3], own={"max_retain_loss": 2})
    assert len(log) == 4


@pytest.mark.parametrize("lora", [None, LoraParameters()], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("forget", "passed_at", "kept_step", "kept"),
    [
        (FALLING, 1, 0, "the model before the task: nothing was forgotten"),
        (FALLING, 2, 0, "the model before the task: nothing was forgotten"),
        # The loss of step 3 is of the weights after epoch 1: it is they that have passed.
        (FALLING, 3, 0, "the model before the task: nothing was forgotten"),
        (FALLING, 4, 2, "that after epoch 1 of 3"),
        (FALLING, 5, 2, "that after epoch 1 of 3"),
        (FALLING, 6, 4, "that after epoch 2 of 3"),
        ([-3, -3, -5, 0, 0, 0], 6, 2, "that after epoch 1 of 3"),  # whose mean is lower
    ],
)
def test_task_goes_back_to_the_best_weights_below_the_bound(
    with_losses, weights, forget, passed_at, kept_step, kept, lora
):
    retain = [1] * (passed_at - 1) + [3] * 6
    model, log, said = with_losses(forget, retain, max_retain_loss=2, lora=lora)
    assert said == [
        f"Unlearning: retain loss 3 at step {passed_at} of 6 is above max_retain_loss 2; "
        f"the model is {kept}"
    ]
    assert model.equal(weights[kept_step])
    assert list(log["step"]) == list(range(1, passed_at + 1))
    assert list(log.loc[log["in_model"], "step"]) == list(range(1, kept_step + 1))


def test_an_epoch_counts_by_its_own_steps(with_losses, weights):
    forget, retain = [0, 0, -6, -6, -5, -5, -4, -4], [*[1] * 7, 3]
    model, _, _ = with_losses(forget, retain, max_retain_loss=2, epochs=4)
    assert model.equal(weights[4])


def test_weights_that_kept_below_the_bound_to_the_end_stay(with_losses, weights):
    model, log, said = with_losses(FALLING, LOW, max_retain_loss=1)
    assert said == []
    assert log["in_model"].all()
    assert not any(model.equal(earlier) for earlier in weights)


@pytest.mark.parametrize("lora", [None, LoraParameters()], ids=["full", "lora"])
@pytest.mark.parametrize("passed_at", [5, 6])
def test_task_that_was_broken_off_goes_back_to_the_same_weights(
    with_losses, broken_off, tmp_path, lora, passed_at
):
    retain = [1] * (passed_at - 1) + [3] * 6
    options = {"max_retain_loss": 2, "lora": lora, "checkpoint_minutes": 1e-9}
    model, log, _ = with_losses(FALLING, retain, **options)
    forget, retain = iter(FALLING), iter(retain)  # go on where they were broken off
    (resumed, resumed_log, _), n_passes = broken_off(
        lambda: with_losses(forget, retain, tmp_path, **options), passed_at
    )
    assert n_passes == 1
    assert resumed.equal(model)
    assert resumed_log.equals(log)


def test_checkpoint_without_the_weights_that_are_kept_is_never_taken(
    with_losses, tmp_path, monkeypatch
):
    retain, save = [1, 1, 1, 1, 3, 3], Guard.save
    options = {"max_retain_loss": 2, "checkpoint_minutes": 1e-9}
    model, log, _ = with_losses(FALLING, retain, **options)

    def dies(self, folder):
        if folder.name == "checkpoint-3":
            raise KeyboardInterrupt
        save(self, folder)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(Guard, "save", dies)
        with_losses(FALLING, retain, tmp_path, **options)
    resumed, resumed_log, _ = with_losses(FALLING[2:], retain[2:], tmp_path, **options)
    assert resumed.equal(model)
    assert resumed_log.equals(log)


@pytest.mark.parametrize(
    ("batch_size", "epoch_ends"),
    [(2, {2: 1, 4: 2, 6: 3}), (3, {2: 1, 3: 2, 4: 3}), (8, {1: 2, 2: 3})],
)
def test_epoch_ends_with_the_step_that_holds_its_last_row(language_model, batch_size, epoch_ends):
    """Of four rows."""
    settings = {"learning_rate": 1, "epochs": 3, "seed": 1, "batch_size": batch_size}
    guard = Guard(language_model.model, UnlearningParameters(**settings), 4, "X")
    assert guard.epoch_ends == epoch_ends


def test_without_the_bound_no_weights_are_kept(language_model):
    settings = {"learning_rate": 1, "epochs": 3, "seed": 1, "batch_size": 2, "stop_when": -1}
    assert Guard(language_model.model, UnlearningParameters(**settings), 4, "X").kept == {}
