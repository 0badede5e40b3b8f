"""Several processes train as one does: every method, with weights shared out or whole."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from closer_look.errors import InputError
from closer_look.losses import FORGET, Loss, every_position
from closer_look.models.language_model import LanguageModel, model_fingerprint
from closer_look.models.tokens import Tokens
from closer_look.parameters.training import FinetuningParameters, LoraParameters
from closer_look.training import processes, trainer
from closer_look.training.finetuning import finetune
from closer_look.training.sharding import OutOfMemory, is_sharded, shard, trained_weights

METHODS = [
    *("altpo_gd", "ce_u", "dpo_gd", "dpo_kl", "dual_optim", "flat", "ga_gd", "ga_kl"),
    *("grad_surgery", "idk_ap", "idk_gd", "idk_kl", "llmu", "me_gd", "npo_gd", "npo_kl", "pdu_gd"),
    *("rmu", "satimp_gd", "simnpo_gd", "task_vector", "undial", "wga_gd"),
]
LORA = LoraParameters(rank=4, dropout=0.0)
LOSSES = ["loss", "forget_loss", "retain_loss", "retain_weight", "gradient_norm"]
SHARDINGS = ["full", "none"]


@pytest.fixture
def questions(make_questions):
    """Answers of different lengths: a mean over rows and one over tokens differ."""
    made = make_questions(("forget", 1, 3), ("retain", 0, 3))
    made["answer"] = [answer + " and more" * n for n, answer in enumerate(made["answer"])]
    return made


@pytest.fixture
def fresh(language_model):
    """A function that gives the same model each time."""
    return lambda: LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)


@pytest.fixture
def trained(fresh, unlearn_task, questions, shipped_methods):
    """Unlearn with a method of that name: the log and the weights."""

    def trained(name, folder=None, **options):
        options = {"epochs": 2, "warmup_epochs": 0.5, "batch_size": 3} | options
        own = dict(shipped_methods[name])
        own |= {"epochs": options["epochs"]} if "epochs" in own else {}
        model, log = unlearn_task(fresh(), questions, own, folder, **options)
        return log, trained_weights(model.model)

    return trained


def assert_equal(found, expected):
    (log, weights), (expected_log, expected_weights) = found, expected
    columns = [one for one in LOSSES if one in expected_log]
    np.testing.assert_allclose(log[columns], expected_log[columns], rtol=1e-4, atol=1e-6)
    assert weights.keys() == expected_weights.keys()
    for name, weight in expected_weights.items():
        # Adam divides a gradient near 0 by its own size.
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=2e-4)


# --- every method -----------------------------------------------------------------------------


def test_they_are_the_shipped_ones_that_train(shipped_methods):
    assert [name for name in sorted(shipped_methods) if name != "prompt_guard"] == METHODS


@pytest.mark.parametrize(
    "lora", [None, pytest.param(LORA, marks=pytest.mark.slow)], ids=["whole", "lora"]
)
def test_two_processes_train_as_one(in_processes, trained, lora):
    """Of three rows in a step, one process takes two and the other takes one."""
    options = {"lora": lora, "is_double": True}
    expected = {name: trained(name, **options) for name in METHODS}

    def all_methods():
        return {
            (name, sharding): trained(name, sharding=sharding, **options)
            for name in METHODS
            for sharding in SHARDINGS
        }

    found, _ = in_processes(all_methods)
    for (name, _), of_method in found.items():
        assert_equal(of_method, expected[name])


@pytest.mark.parametrize("name", METHODS)
def test_passes_over_single_rows_train_as_one_over_all(trained, name):
    assert_equal(trained(name, micro_batch_size=1), trained(name))


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize(
    "options",
    [{"batch_size": 2, "micro_batch_size": 1}, {"gradient_checkpointing": True}],
    ids=["accumulated", "checkpointing"],
)
def test_three_processes_of_which_one_may_have_no_row(in_processes, trained, sharding, options):
    """Gradients that are merged take two passes back."""
    expected = trained("grad_surgery", **options)
    found, *_ = in_processes(lambda: trained("grad_surgery", **options, sharding=sharding), 3)
    assert_equal(found, expected)


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("name", ["rmu", "llmu"])
def test_model_that_takes_rows_one_by_one(
    in_processes, trained, fresh, monkeypatch, name, sharding
):
    """The processes have to put its weights together equally often."""
    monkeypatch.setattr(type(fresh().model), "_supports_attention_backend", False)
    expected = trained(name)
    found, _ = in_processes(lambda: trained(name, sharding=sharding))
    assert_equal(found, expected)


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_fine_tuning_by_two_processes(in_processes, fresh, questions, sharding):
    """The order of the rows is drawn anew in each epoch."""

    def learned(**options):
        model = fresh()
        settings = {"learning_rate": 1e-2, "epochs": 3, "batch_size": 2, "seed": 1} | options
        asked, answers = list(questions["question"]), list(questions["answer"])
        log = finetune(model, asked, answers, FinetuningParameters(**settings))
        return log, trained_weights(model.model)

    expected = learned()
    found, _ = in_processes(lambda: learned(sharding=sharding))
    assert_equal(found, expected)


def test_layers_in_bf16_lose_no_more_than_one_process_does(in_processes, trained, monkeypatch):
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    expected, _ = trained("npo_gd", precision="bf16")
    (found, weights), _ = in_processes(lambda: trained("npo_gd", precision="bf16"))
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=0.01)
    assert {one.dtype for one in weights.values()} == {torch.float32}


# --- what ends or interrupts a training -------------------------------------------------------


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("name", ["dual_optim", "pdu_gd", "task_vector"])  # the last with LoRA
def test_training_goes_on_with_another_number_of_processes(
    in_processes, trained, tmp_path, name, sharding
):
    """One process, then two, then one. The guard keeps weights; a step is saved at its end."""
    options = {"epochs": 5, "max_retain_loss": 1e9, "checkpoint_minutes": 1e-9}
    options |= {"sharding": sharding}
    if name == "task_vector":
        del options["max_retain_loss"]
        options["lora"] = LORA
    undisturbed = trained(name, **options)

    def steps(most):
        """Train until that many steps are done; how many were done, and what came of it."""
        step, done = trainer._Trainer.training_step, []

        def counted(self, *args, **kwargs):
            if len(done) == most:
                raise KeyboardInterrupt
            done.append(None)
            return step(self, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer._Trainer, "training_step", counted)
            try:
                return len(done), trained(name, tmp_path / "checkpoints", **options)
            except KeyboardInterrupt:
                return len(done), None

    assert steps(2) == (2, None)
    assert in_processes(lambda: steps(2)) == [(2, None)] * 2
    n_done, found = steps(None)
    assert n_done == 0
    assert_equal(found, undisturbed)


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_guard_ends_all_processes_at_the_same_step(in_processes, trained, sharding):
    """And restores the weights of the same epoch."""
    options = {"epochs": 6, "learning_rate": 0.05}
    unguarded, _ = trained("ga_kl", **options)
    options["max_retain_loss"] = unguarded["retain_loss"].iloc[2:4].mean()
    expected = trained("ga_kl", **options)
    assert list(expected[0]["in_model"]) == [True, False, False, False]
    found, _ = in_processes(lambda: trained("ga_kl", **options, sharding=sharding))
    assert_equal(found, expected)
    assert list(found[0]["in_model"]) == list(expected[0]["in_model"])


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_all_processes_stop_at_a_loss_that_is_not_finite(
    in_processes, trained, monkeypatch, sharding
):
    """It is that of one process; the rows of all are named."""

    def broken(logits, labels):
        return logits.sum() * (torch.nan if processes.rank() == 1 else 0)

    monkeypatch.setitem(FORGET, "gradient_ascent", Loss(broken, "GA", ""))

    def message():
        with pytest.raises(InputError) as error:
            trained("ga_gd", sharding=sharding)
        return str(error.value)

    first, second = in_processes(message)
    assert first == second
    assert "loss is nan at step 1, rows" in first
    assert all(f"forget-1-{n}" in first for n in (1, 2, 3))


def test_memory_that_runs_out_in_one_process_halves_the_passes_of_all(
    in_processes, trained, monkeypatch
):
    holds(monkeypatch, 1)
    options = {"batch_size": 3, "sharding": "none"}
    expected = trained("npo_gd", micro_batch_size=1)
    for found in in_processes(lambda: trained("npo_gd", **options)):
        assert list(found[0]["micro_batch_size"]) == [1, 1]
        assert_equal((found[0], expected[1]), expected)


def test_memory_that_runs_out_in_one_process_ends_it_where_others_wait_for_its_weights(
    in_processes, trained, monkeypatch
):
    """Two rows are in the pass of the first process, one in that of the second."""
    holds(monkeypatch, 1)

    def attempt():
        try:
            trained("npo_gd", sharding="full")
        except OutOfMemory as error:
            return error.n_rows
        except RuntimeError:  # the other one has gone
            return None

    assert in_processes(attempt) == [2, None]


def holds(monkeypatch, n_rows):
    """Let the first process run out of memory with more rows than that in a pass."""
    compute_loss = trainer._Trainer.compute_loss

    def limited(self, model, inputs, *args, **kwargs):
        if processes.rank() == 0 and len(inputs["names"]) // 2 > n_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer._Trainer, "compute_loss", limited)


# --- rows, order and randomness ---------------------------------------------------------------


def test_longest_rows_are_dealt_out_first(monkeypatch):
    monkeypatch.setattr(processes, "n_processes", lambda: 2)
    rows = [{"row": Tokens([0] * n, [0]), "name": str(n)} for n in (1, 8, 2, 9)]
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        parts.append([row["name"] for row in processes.part_of(rows)])
    assert parts == [["2", "9"], ["1", "8"]]


def test_one_process_takes_all_rows_in_their_order():
    rows = [{"row": Tokens([0] * n, [0])} for n in (1, 8, 2)]
    assert processes.part_of(rows) == rows


def test_processes_differ_in_dropout_and_not_in_the_order_of_rows(in_processes):
    def draw():
        torch.manual_seed(1)
        with processes.own_randomness(7):
            inside = torch.rand(2)
        torch.set_rng_state(processes.of_first(torch.get_rng_state()))
        return inside.tolist(), torch.randperm(10).tolist()

    (first, order), (second, other) = in_processes(draw)
    assert first != second
    assert order == other
    torch.manual_seed(1)
    assert torch.rand(2).tolist() == first  # as if it were alone


def test_dropout_is_the_same_in_each_run_of_two_processes(in_processes, trained):
    lora = LoraParameters(rank=4, dropout=0.5)
    first, second = (in_processes(lambda: trained("ga_gd", lora=lora))[0] for _ in range(2))
    pd.testing.assert_frame_equal(first[0], second[0], check_exact=True)


def test_weight_without_a_gradient_in_any_process_keeps_none(in_processes):
    """The optimiser would shrink it."""

    def total():
        own, shared, idle = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
        gradients = {shared: torch.ones(2)}
        if processes.rank() == 1:
            gradients[own] = torch.full((2,), 3.0)
        found = processes.sum_gradients([own, shared, idle], gradients)
        return [one in found and found[one].tolist() for one in (own, shared, idle)]

    assert in_processes(total) == [[[3.0, 3.0], [2.0, 2.0], False]] * 2


# --- what is written of shared weights ----------------------------------------------------------


def test_state_of_shared_weights_is_that_of_the_whole_model(in_processes, fresh):
    expected = model_fingerprint(fresh())

    def states():
        made = fresh()
        shard(made.model, "fp32")
        assert is_sharded(made.model)
        return model_fingerprint(made), sum(w.numel() for w in trained_weights(made.model).values())

    (first, n_first), (second, n_second) = in_processes(states)
    assert first == expected != second
    assert n_first > n_second == 0


# --- the weight of a part of a step -------------------------------------------------------------


def test_loss_of_ones_own_that_averages_over_positions_of_two_texts(
    in_processes, trained, shipped_methods, monkeypatch
):
    def both(logits, labels, idk_logits, idk_labels):
        from closer_look.losses.nll import mean_nll

        return mean_nll(idk_logits, idk_labels) - 2 * mean_nll(logits, labels)

    monkeypatch.setitem(FORGET, "gradient_ascent", Loss(both, "X", "", counts=every_position))
    assert_equal(trained("ga_gd", micro_batch_size=1), trained("ga_gd"))
