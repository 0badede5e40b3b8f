"""Fine-tuning and unlearning really train, the same way every time."""

import copy
import re

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel

from closer_look.data.planning import draw_plan
from closer_look.errors import InputError
from closer_look.inference.scoring import score
from closer_look.losses import FORGET, Loss
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import (
    FinetuningParameters,
    LoraParameters,
    UnlearningParameters,
)
from closer_look.training import finetuning, trainer, unlearning
from closer_look.training.reference import reference_scores


@pytest.fixture
def fresh(language_model):
    return LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 4), ("retain", 0, 4))


@pytest.fixture
def unlearn(unlearn_first_task):
    def unlearn(language_model, questions, forget, retain="gradient_descent", **options):
        options = {"batch_size": 4} | options
        return unlearn_first_task(language_model, questions, forget, retain, **options)

    return unlearn


def mean_nll(language_model, rows, answers=None):
    texts = list(rows["answer"]) if answers is None else answers
    return score(language_model, list(rows["question"]), texts, 4)["nll"].mean()


def test_fine_tuning_teaches_the_answers(fresh, questions):
    before = mean_nll(fresh, questions)
    parameters = FinetuningParameters(learning_rate=1e-2, epochs=10, batch_size=4, seed=1)
    asked, answers = list(questions["question"]), list(questions["answer"])
    log = finetuning.finetune(fresh, asked, answers, parameters)
    assert mean_nll(fresh, questions) < before / 3
    assert len(log) == 10 * 2
    assert {"step", "epoch", "loss", "learning_rate", "gradient_norm"} <= set(log.columns)


def test_gradient_ascent_raises_the_nll_of_the_forget_rows(fresh, questions, unlearn):
    rows = questions[questions["split"] == "forget"]
    before = mean_nll(fresh, rows)
    model, log = unlearn(fresh, questions, "gradient_ascent")
    assert mean_nll(model, rows) > before
    assert len(log) == 3
    assert {"forget_loss", "retain_loss"} <= set(log.columns)


def test_idk_makes_refusals_likelier_on_the_forget_rows(fresh, questions, unlearn):
    rows = questions[questions["split"] == "forget"]
    before = mean_nll(fresh, rows, ["No."] * 4)
    model, _ = unlearn(fresh, questions, "idk", epochs=10)
    assert mean_nll(model, rows, ["No."] * 4) < before


def test_log_holds_the_total_and_its_terms(fresh, questions, unlearn):
    _, log = unlearn(fresh, questions, "idk")
    np.testing.assert_allclose(log["loss"], log["forget_loss"] + log["retain_loss"], rtol=1e-4)


def test_learning_rate_warms_up_for_an_epoch_and_decays_to_nothing(fresh, questions, unlearn):
    _, log = unlearn(fresh, questions, "idk", epochs=4, batch_size=2, learning_rate=1e-3)
    # Two steps of warm-up, then a line from 1e-3 at step 3 to 0 after step 8.
    expected = np.array([0, 1 / 2, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]) * 1e-3
    np.testing.assert_allclose(log["learning_rate"], expected, atol=1e-9)


def test_a_method_may_have_its_own_learning_rate(fresh, questions):
    method = MethodParameters(
        label="X",
        forget={"loss": "idk"},
        retain={"loss": "gradient_descent"},
        learning_rate=7e-4,
    )
    generator = np.random.default_rng(1)
    plan = draw_plan(questions, ["No."], 1, epochs=2, pairing="fixed", generator=generator)
    scores = reference_scores(fresh, plan, questions, method, batch_size=4)
    shared = UnlearningParameters(learning_rate=1, epochs=2, batch_size=4, seed=1)
    _, log = unlearning.unlearn(fresh, plan, questions, scores, method, shared)
    assert log["learning_rate"].max() == pytest.approx(7e-4)


@pytest.mark.parametrize("lora", [None, LoraParameters()], ids=["full", "lora"])
def test_the_same_seed_gives_the_same_weights(language_model, questions, lora, unlearn):
    weights = []
    for _ in range(2):
        copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        model, _ = unlearn(copied, questions, "maximum_entropy", lora=lora)
        weights.append(torch.cat([w.flatten() for w in model.model.parameters()]))
    assert torch.equal(*weights)


def test_accumulated_micro_batches_train_as_one_batch_where_the_loss_is_a_mean_over_rows(
    language_model, questions, unlearn
):
    """NPO is a mean over rows, so the halves' mean is the whole's; CE would weigh tokens."""
    rates = []
    for micro_batch_size in (4, 2):
        copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        options = {"micro_batch_size": micro_batch_size, "retain": "answer_preservation"}
        _, log = unlearn(copied, questions, "npo", **options)
        rates.append(log["loss"].to_numpy())
    np.testing.assert_allclose(rates[0][:2], rates[1][:2], rtol=1e-3)


def test_logged_terms_are_the_mean_over_the_micro_batches(language_model, questions, unlearn):
    logs = []
    for micro_batch_size in (4, 1):
        copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        options = {"micro_batch_size": micro_batch_size, "retain": "answer_preservation"}
        _, log = unlearn(copied, questions, "npo", **options)
        logs.append(log[["forget_loss", "retain_loss"]].to_numpy()[:2])
    np.testing.assert_allclose(*logs, rtol=1e-3)


@pytest.mark.parametrize("losses", [("idk", "gradient_descent"), ("rmu", "rmu")])
def test_gradient_checkpointing_changes_no_number(language_model, questions, unlearn, losses):
    totals = []
    for checkpointing in (False, True):
        copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        _, log = unlearn(copied, questions, *losses, gradient_checkpointing=checkpointing)
        totals.append(log["loss"].to_numpy())
    assert len(set(totals[0])) > 1
    np.testing.assert_allclose(*totals, rtol=1e-5)


@pytest.mark.parametrize("lora", [None, LoraParameters(rank=2)], ids=["full", "lora"])
def test_a_model_can_be_handed_to_other_processes_after_gradient_checkpointing(
    fresh, questions, lora, unlearn, tmp_path
):
    before = {name: len(module._forward_hooks) for name, module in fresh.model.named_modules()}
    trained, _ = unlearn(fresh, questions, "idk", lora=lora, gradient_checkpointing=True)
    torch.save(trained, tmp_path / "model.pt")
    assert not trained.model.is_activation_checkpointing
    model = trained.model.unload() if lora else trained.model
    assert {name: len(module._forward_hooks) for name, module in model.named_modules()} == before


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_adapter_learns(language_model, questions, unlearn, checkpointing):
    """B of each adapter starts at 0: where the gradient is cut off, it stays there."""
    copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
    lora = {"rank": 2, "dropout": 0.0}
    adapted, _ = unlearn(copied, questions, "idk", lora=lora, gradient_checkpointing=checkpointing)
    moved = {
        name: bool(weight.any())
        for name, weight in adapted.model.named_parameters()
        if "lora_B" in name
    }
    assert len(moved) == 7
    assert all(moved.values()), moved


def test_rows_one_by_one_train_as_rows_packed(language_model, questions, unlearn):
    losses = []
    for attention in ("sdpa", "eager"):  # only the first takes packed rows
        copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        copied.model.set_attn_implementation(attention)
        _, log = unlearn(copied, questions, "idk")
        losses.append(log["loss"].to_numpy())
    np.testing.assert_allclose(*losses, rtol=1e-4)


@torch.inference_mode()
def test_model_trained_in_mixed_precision_computes_as_when_it_is_read_again(
    language_model, fresh, questions, monkeypatch, unlearn
):
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    with torch.inference_mode(mode=False):
        trained, _ = unlearn(fresh, questions, "idk", precision="bf16")
    read = copy.deepcopy(language_model.model).to(trained.model.device)
    read.load_state_dict(trained.model.state_dict())
    ids = torch.tensor([[5, 6, 7, 8]], device=read.device)
    assert torch.equal(trained.model.eval()(ids).logits, read.eval()(ids).logits)


@pytest.mark.parametrize(("forget", "retain"), [("idk", "gradient_descent"), ("rmu", "rmu")])
def test_mixed_precision_computes_in_bf16_and_keeps_weights_in_fp32(
    fresh, questions, monkeypatch, unlearn, forget, retain
):
    """RMU runs the layers without the model around them."""
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    computed = set()
    linear = fresh.model.model.layers[0].mlp.up_proj
    linear.register_forward_hook(
        lambda module, inputs, output: computed.add((module.training, output.dtype))
    )
    trained, log = unlearn(fresh, questions, forget, retain, precision="bf16")
    assert {dtype for in_training, dtype in computed if in_training} == {torch.bfloat16}
    assert {weight.dtype for weight in trained.model.parameters()} == {torch.float32}
    assert np.isfinite(log["loss"]).all()


def test_halves_of_weights_that_nobody_reads_are_not_kept(
    language_model, questions, monkeypatch, unlearn
):
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    kept, losses = [], []

    def look(module, inputs, output):
        if module.training:
            kept.append(torch.is_autocast_cache_enabled())

    for checkpointing, attention in ((True, "sdpa"), (True, "eager"), (False, "sdpa")):
        copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        copied.model.set_attn_implementation(attention)  # only sdpa takes packed rows
        options = {"precision": "bf16", "gradient_checkpointing": checkpointing, "epochs": 2}
        trains = copied.model.lm_head.register_forward_hook(look)
        _, log = unlearn(copied, questions, "idk", **options)
        trains.remove()
        losses.append(log["loss"].to_numpy())
        assert set(kept) == {not (checkpointing and attention == "sdpa")}
        kept.clear()
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-5)


def test_lora_trains_adapters_alone_and_a_chain_goes_on_with_them(fresh, questions, unlearn):
    frozen = fresh.model.get_input_embeddings().weight.detach().clone()
    first, _ = unlearn(fresh, questions, "idk", lora=LoraParameters())
    assert isinstance(first.model, PeftModel)
    trained = [name for name, weight in first.model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert torch.equal(first.model.get_input_embeddings().weight.cpu(), frozen.cpu())
    second, _ = unlearn(first, questions, "idk", lora=LoraParameters())
    assert second.model is first.model


def test_adapters_switched_off_are_the_first_model(language_model, fresh, questions, unlearn):
    """So the first model, as the reference of a chain with adapters, is the target model itself."""
    adapted, _ = unlearn(fresh, questions, "idk", lora=LoraParameters())
    assert mean_nll(adapted, questions) != mean_nll(language_model, questions)
    with adapted.model.disable_adapter():
        assert mean_nll(adapted, questions) == mean_nll(language_model, questions)


def test_lora_target_that_matches_no_layer_is_refused(fresh, questions, unlearn):
    with pytest.raises(InputError, match=r"parameter unlearning\.lora\.target_modules: .*nowhere"):
        unlearn(fresh, questions, "idk", lora=LoraParameters(target_modules=["nowhere"]))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_unlearning_stops_at_a_loss_that_is_not_finite(
    fresh, questions, monkeypatch, value, unlearn
):
    steps = []

    def diverging(logits, labels):
        steps.append(None)
        return logits.sum() * (value if len(steps) == 2 else 0)

    monkeypatch.setitem(FORGET, "gradient_ascent", Loss(diverging, "GA", ""))
    with pytest.raises(
        InputError, match=r"loss is -?(nan|inf) at step 2, rows .*; the model is not"
    ):
        unlearn(fresh, questions, "gradient_ascent", batch_size=2)
    assert len(steps) == 2


def test_rows_of_the_step_that_is_not_finite_are_named(fresh, questions, monkeypatch, unlearn):
    """With accumulation too, and no others."""
    nan = lambda logits, labels: logits.sum() * torch.nan  # noqa: E731
    monkeypatch.setitem(FORGET, "gradient_ascent", Loss(nan, "GA", ""))
    with pytest.raises(InputError) as error:
        unlearn(fresh, questions, "gradient_ascent", batch_size=2, micro_batch_size=1)
    named = re.findall(r"(forget|retain)-\d-\d", str(error.value))
    assert sorted(named) == ["forget", "forget", "retain", "retain"]


def test_unlearning_stops_at_a_gradient_that_is_not_finite(fresh, questions, monkeypatch, unlearn):
    """At the last step, after which there would be no loss to show it."""
    steps = []

    def diverging(logits, labels):
        steps.append(None)
        zero = (logits - logits.detach()).square().sum()
        return zero.sqrt() if len(steps) == 2 else zero  # with an infinite gradient

    monkeypatch.setitem(FORGET, "gradient_ascent", Loss(diverging, "GA", ""))
    with pytest.raises(InputError, match=r"gradient_norm is nan at step 2, rows"):
        unlearn(fresh, questions, "gradient_ascent", epochs=2, warmup_epochs=1, batch_size=4)


def test_fine_tuning_stops_at_a_loss_that_is_not_finite(fresh, questions):
    with torch.no_grad():
        fresh.model.get_output_embeddings().weight[:] = torch.nan
    parameters = FinetuningParameters(learning_rate=1e-2, epochs=2, batch_size=1, seed=1)
    asked, answers = list(questions["question"]), list(questions["answer"])
    with pytest.raises(
        InputError, match=r"loss is nan at step 1, rows '.*\?'; the model is not saved"
    ):
        finetuning.finetune(fresh, asked, answers, parameters)


def test_what_is_called_after_epochs_sees_the_model_and_changes_nothing(
    language_model, questions, shipped_methods
):
    method = MethodParameters.model_validate(shipped_methods["npo_gd"])
    parameters = UnlearningParameters(learning_rate=5e-3, epochs=3, batch_size=2, seed=1)
    generator = np.random.default_rng(1)
    plan = draw_plan(questions, ["No."], 1, epochs=3, pairing="per_epoch", generator=generator)
    seen = []

    def look(trained, epoch):
        seen.append((epoch, mean_nll(trained, questions[questions["task_id"] == 1])))

    weights = []
    for after_epoch in (None, look):
        model = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        scores = reference_scores(model, plan, questions, method, batch_size=4)
        trained, _ = unlearning.unlearn(
            model, plan, questions, scores, method, parameters, after_epoch=after_epoch
        )
        weights.append(torch.cat([one.flatten() for one in trained.model.parameters()]))
    assert torch.equal(*weights)
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert seen[0][1] < seen[1][1]


def test_trackers_of_transformers_are_told_each_step_by_the_first_process_alone(
    fresh, questions, tmp_path, monkeypatch
):
    asked, answers = list(questions["question"]), list(questions["answer"])

    def tune(folder, **options):
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / folder))
        settings = {"learning_rate": 1e-2, "epochs": 2, "batch_size": 4, "seed": 1} | options
        model = LanguageModel(copy.deepcopy(fresh.model), fresh.tokenizer)
        return finetuning.finetune(model, asked, answers, FinetuningParameters(**settings))

    told = tune("told", report_to="tensorboard")
    (events,) = (tmp_path / "told").iterdir()
    assert b"train/gradient_norm" in events.read_bytes() or b"train/loss" in events.read_bytes()
    pd.testing.assert_frame_equal(told, tune("none"))
    assert not (tmp_path / "none").exists()

    monkeypatch.setattr(trainer, "rank", lambda: 1)
    tune("second", report_to="tensorboard")
    assert not (tmp_path / "second").exists()


def test_no_result_depends_on_who_is_told():
    settings = {"learning_rate": 1, "epochs": 2, "batch_size": 4, "seed": 1}
    told = UnlearningParameters(**settings, report_to="tensorboard")
    assert told.report_to == ("tensorboard",)
    assert told.model_dump() == UnlearningParameters(**settings, report_to="none").model_dump()


def test_an_unknown_tracker_is_refused_with_those_that_are_installed():
    settings = {"learning_rate": 1, "epochs": 2, "batch_size": 4, "seed": 1}
    message = r"report_to: 'tensorbord' is no tracker of transformers.*choose.*: .*tensorboard"
    with pytest.raises(ValueError, match=message):
        UnlearningParameters.model_validate(settings | {"report_to": "tensorbord"})
