"""Out of memory, half as many rows go on; what no device holds ends the run with one line."""

import copy
import weakref

import numpy as np
import pandas as pd
import pytest
import torch

from closer_look.errors import InputError
from closer_look.inference import decoding, scoring
from closer_look.inference.generation import generate
from closer_look.inference.scoring import score
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.training import FinetuningParameters, LoraParameters
from closer_look.system.memory import halve_until_it_fits, in_passes
from closer_look.training import finetuning, reference, trainer

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")


def fits(n_rows):
    """Work that does with at most so many rows."""

    def work(rows):
        if len(rows) > n_rows:
            raise OUT_OF_MEMORY
        return list(rows)

    return work


def holding(monkeypatch, module, name, most, rows):
    """Let a function run out of memory when it is given more rows than that; the numbers given."""
    original, given = getattr(module, name), []

    def limited(*args, **kwargs):
        given.append(rows(*args))
        if given[-1] > most:
            raise OUT_OF_MEMORY
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, limited)
    return given


def test_rows_in_a_pass_are_halved_until_they_fit(caplog):
    result, n_rows = halve_until_it_fits(lambda n: fits(3)("x" * n), 8, remark=", as before")
    assert (result, n_rows) == (["x", "x"], 2)
    assert caplog.messages == [
        "out of memory with 8 rows in a pass; going on with 4, as before",
        "out of memory with 4 rows in a pass; going on with 2, as before",
    ]


def test_single_row_that_does_not_fit_ends_the_run():
    with pytest.raises(InputError) as error:
        halve_until_it_fits(lambda n: fits(0)("x" * n), 2, advice="; buy a larger one")
    assert error.value.message == (
        "out of memory: a single row does not fit on this device with the model "
        "(CUDA out of memory. Tried to allocate 2.00 GiB.); buy a larger one"
    )


def test_memory_of_the_cpu_counts_as_well(caplog):
    def work(n_rows):
        return torch.empty(2**50 if n_rows > 1 else 1).numel()

    assert halve_until_it_fits(work, 2) == (1, 1)
    assert len(caplog.messages) == 1


def test_any_other_error_is_passed_on():
    def work(n_rows):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        halve_until_it_fits(work, 8)


def test_nothing_of_the_failed_attempt_is_held_while_the_next_one_runs():
    held = []

    def work(n_rows):
        assert [one() for one in held] == [None] * len(held)
        tensor = torch.ones(n_rows)
        held.append(weakref.ref(tensor))
        if n_rows > 1:
            raise torch.OutOfMemoryError(str(OUT_OF_MEMORY))  # a new one, with its own traceback

    halve_until_it_fits(work, 4)
    assert len(held) == 3


def test_passes_take_every_row_once_in_order(caplog):
    passes = list(in_passes(fits(3), range(11), 8))
    assert [list(rows) for rows, _ in passes] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10]]
    assert all(list(rows) == result for rows, result in passes)
    assert len(caplog.messages) == 2  # once for each size, not for each pass


def test_fewer_rows_than_a_pass_may_hold_are_halved_from_their_number(caplog):
    list(in_passes(fits(2), range(4), 128))
    assert caplog.messages == ["out of memory with 4 rows in a pass; going on with 2"]


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 8), ("retain", 0, 8))


def test_scores_are_the_same(language_model, questions, monkeypatch, caplog):
    texts = list(questions["question"]), list(questions["answer"])
    expected = score(language_model, *texts, 4)
    given = holding(monkeypatch, scoring, "_score_batch", 5, lambda model, rows: len(rows))
    pd.testing.assert_frame_equal(score(language_model, *texts, 16), expected, rtol=1e-5)
    assert given == [16, 8, 4, 4, 4, 4]
    assert len(caplog.messages) == 2


def test_answers_are_the_same(language_model, questions, monkeypatch):
    texts = list(questions["question"])
    expected = generate(language_model, texts, 64, 4)
    monkeypatch.setattr(decoding, "_chosen", {})
    given = holding(
        monkeypatch, decoding, "decode_together", 5, lambda model, rows, *rest: len(rows)
    )
    pd.testing.assert_frame_equal(generate(language_model, texts, 64, 16), expected)
    assert given == [2, 2, 16, 8, 4, 4, 4, 4]  # two pairs to try the decoder


def test_hidden_states_of_the_reference_are_the_same(unlearn, questions, monkeypatch):
    options = {"epochs": 2, "batch_size": 8}
    _, expected = unlearn(questions, "npo", "kl", **options)
    count = lambda model, batch: len(batch["answer_lengths"])  # noqa: E731
    given = holding(monkeypatch, reference, "answer_states", 2, count)
    _, log = unlearn(questions, "npo", "kl", **options)
    assert given == [4, 2, 2, 2, 2]
    np.testing.assert_allclose(log["loss"], expected["loss"], rtol=1e-5)


def rows_of(self, model, inputs, *rest):
    return len(inputs["names"]) // 2  # a forget row and a retain row


@pytest.mark.parametrize("lora", [None, LoraParameters(dropout=0)], ids=["full", "lora"])
def test_step_out_of_memory_is_made_again_as_with_smaller_micro_batches(
    unlearn, questions, monkeypatch, caplog, lora
):
    options = {"batch_size": 8, "lora": lora}
    smaller, expected = unlearn(questions, "npo", "kl", micro_batch_size=2, **options)
    given = holding(monkeypatch, trainer._Trainer, "compute_loss", 3, rows_of)
    model, log = unlearn(questions, "npo", "kl", **options)
    assert given == [8, 4] + [2] * 4 * 3
    assert caplog.messages == [
        "out of memory with 8 rows in a pass; going on with 4, gradients accumulate to the same "
        "batch of 8",
        "out of memory with 4 rows in a pass; going on with 2, gradients accumulate to the same "
        "batch of 8",
    ]
    pd.testing.assert_frame_equal(log, expected, check_exact=True)
    assert list(log["micro_batch_size"]) == [2, 2, 2]
    for weight, other in zip(model.model.parameters(), smaller.model.parameters(), strict=True):
        assert weight.equal(other)


def test_gradients_of_an_attempt_that_failed_halfway_do_not_count(
    unlearn, questions, monkeypatch, caplog
):
    """The second micro-batch fails, when the first has left its gradients."""
    options = {"batch_size": 8, "epochs": 2}
    _, expected = unlearn(questions, "npo", "kl", micro_batch_size=2, **options)
    compute_loss, calls = trainer._Trainer.compute_loss, []

    def second_fails(self, *args, **kwargs):
        calls.append(None)
        if len(calls) == 2:
            raise OUT_OF_MEMORY
        return compute_loss(self, *args, **kwargs)

    monkeypatch.setattr(trainer._Trainer, "compute_loss", second_fails)
    _, log = unlearn(questions, "npo", "kl", micro_batch_size=4, **options)
    pd.testing.assert_frame_equal(log, expected, check_exact=True)


def test_training_row_that_does_not_fit_ends_the_run(unlearn, questions, monkeypatch):
    holding(monkeypatch, trainer._Trainer, "compute_loss", 0, rows_of)
    with pytest.raises(InputError, match=r"single row .*; gradient_checkpointing and LoRA need"):
        unlearn(questions, "npo", "kl")


def test_training_that_goes_on_keeps_the_smaller_micro_batches(
    unlearn, questions, monkeypatch, broken_off, tmp_path
):
    options = {"batch_size": 8, "checkpoint_minutes": 1e-9}
    given = holding(monkeypatch, trainer._Trainer, "compute_loss", 4, rows_of)
    (_, log), n_passes = broken_off(
        lambda: unlearn(questions, "npo", "kl", tmp_path, **options), 1 + 2 + 1
    )
    assert given[:4] == [8, 4, 4, 4]
    assert n_passes == 2 * 2
    assert list(log["micro_batch_size"]) == [4, 4, 4]


def test_uneven_micro_batches_count_by_their_rows(unlearn, questions, monkeypatch):
    """NPO and AP are means over rows: 3 + 3 + 1 rows give what 7 at once do."""
    options = {"batch_size": 7}
    _, expected = unlearn(questions, "npo", "answer_preservation", **options)
    given = holding(monkeypatch, trainer._Trainer, "compute_loss", 3, rows_of)
    _, log = unlearn(questions, "npo", "answer_preservation", **options)
    assert given[:4] == [7, 3, 3, 1]
    columns = ["loss", "forget_loss", "retain_loss", "gradient_norm"]
    np.testing.assert_allclose(log[columns][:2], expected[columns][:2], rtol=1e-3)


def test_fine_tuning_goes_through_the_same_rows_whatever_fits(
    language_model, questions, monkeypatch
):
    """Their order within a step, too, which is grouped by length."""
    orders = []
    for most in (8, 4):
        with monkeypatch.context() as patch:
            seen = []
            holding(
                patch, finetuning, "answer_logits", most, lambda model, batch: len(batch["names"])
            )
            check = trainer._Trainer.log

            def log(self, logs, *args, seen=seen, check=check, **kwargs):
                seen += self.names if "loss" in logs else []
                check(self, logs, *args, **kwargs)

            patch.setattr(trainer._Trainer, "log", log)
            copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
            parameters = FinetuningParameters(learning_rate=1e-3, epochs=3, batch_size=8, seed=1)
            texts = list(questions["question"]), list(questions["answer"])
            finetuning.finetune(copied, *texts, parameters)
        orders.append(seen)
    assert len(orders[0]) == 3 * 16
    assert orders[0] == orders[1]


def test_memory_that_the_optimiser_lacks_ends_the_run(unlearn, questions, monkeypatch):
    def fails(self, *args, **kwargs):
        raise OUT_OF_MEMORY

    monkeypatch.setattr(torch.optim.AdamW, "step", fails)
    with pytest.raises(InputError) as error:
        unlearn(questions, "npo", "kl")
    assert error.value.message == (
        "out of memory: gradients and the optimiser's moments do not fit on this device with the "
        "model (CUDA out of memory. Tried to allocate 2.00 GiB.); gradient_checkpointing and LoRA "
        "need less memory"
    )


def test_error_of_the_optimiser_that_is_not_memory_is_passed_on(unlearn, questions, monkeypatch):
    def fails(self, *args, **kwargs):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(torch.optim.AdamW, "step", fails)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        unlearn(questions, "npo", "kl")
