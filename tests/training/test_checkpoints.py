"""A training that was broken off goes on from its last checkpoint, to the same numbers."""

import copy
import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from closer_look import losses
from closer_look.errors import InputError
from closer_look.models.language_model import SPARE_BYTES, LanguageModel
from closer_look.parameters.training import FinetuningParameters, LoraParameters
from closer_look.system.code import code_fingerprint
from closer_look.training import checkpoints, finetuning, trainer, unlearning
from closer_look.training.checkpoints import Checkpoints, training_key

ALWAYS = 1e-9  # minutes


@pytest.fixture
def questions(make_questions):
    """Six of each, of different lengths."""
    questions = make_questions(("forget", 1, 6), ("retain", 0, 6))
    longer = [" or so" * (n % 5) + "?" for n in range(len(questions))]
    return questions.assign(question=questions["question"].str.removesuffix("?") + longer)


@pytest.fixture
def fresh(language_model):
    """A function that gives the same model each time."""
    return lambda: LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)


@pytest.fixture
def finetune(fresh, questions):
    """Fine-tune; the weights and the log."""

    def finetune(folder=None, minutes=ALWAYS, **options):
        settings = {"learning_rate": 1e-2, "epochs": 3, "batch_size": 5, "seed": 1} | options
        parameters = FinetuningParameters(**settings, checkpoint_minutes=minutes)
        language_model = fresh()
        asked, answers = list(questions["question"]), list(questions["answer"])
        log = finetuning.finetune(language_model, asked, answers, parameters, folder)
        return weights_of(language_model), log

    return finetune


@pytest.fixture
def unlearn(unlearn, questions):
    """Unlearn; the weights and the log."""

    def with_checkpoints(folder=None, forget="npo", **options):
        options = {"checkpoint_minutes": ALWAYS} | options
        unlearned, log = unlearn(questions, forget, "kl", folder, **options)
        return weights_of(unlearned), log

    return with_checkpoints


def weights_of(language_model):
    return {name: w.detach().clone() for name, w in language_model.model.state_dict().items()}


def assert_same(first, second):
    assert first[0].keys() == second[0].keys()
    assert all(weight.equal(second[0][name]) for name, weight in first[0].items())
    pd.testing.assert_frame_equal(first[1], second[1], check_exact=True)


@pytest.mark.parametrize("steps_done", range(1, 8))
def test_fine_tuning_goes_on_to_the_same_numbers(finetune, tmp_path, broken_off, steps_done):
    """Three steps an epoch, whose order is random: broken off inside an epoch and at its end."""
    undisturbed = finetune()
    resumed, n_passes = broken_off(lambda: finetune(tmp_path), steps_done + 1)
    assert_same(undisturbed, resumed)
    assert n_passes == len(undisturbed[1]) - steps_done


def test_training_broken_off_twice_goes_on_to_the_same_numbers(
    finetune, tmp_path, broken_off, monkeypatch
):
    """At the end of an epoch, and again inside the next one."""
    undisturbed = finetune()
    complete = Checkpoints.complete

    def dies(self, state):
        complete(self, state)
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "complete", dies)
        with pytest.raises(KeyboardInterrupt):
            finetune(tmp_path)
    resumed, n_passes = broken_off(lambda: finetune(tmp_path), 2)
    assert_same(undisturbed, resumed)
    assert n_passes == 9 - 4


LORA = {"lora": LoraParameters(dropout=0.3)}  # at random in each step
CASES = {
    "full": {},
    "LoRA": LORA,
    "gradient checkpointing": {"gradient_checkpointing": True},
    "accumulated": {"micro_batch_size": 1},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_unlearning_goes_on_to_the_same_numbers(unlearn, tmp_path, broken_off, options):
    undisturbed = unlearn(**options)
    passes_a_step = 2 // options.get("micro_batch_size", 2)
    resumed, n_passes = broken_off(lambda: unlearn(tmp_path, **options), 4 * passes_a_step + 1)
    assert_same(undisturbed, resumed)
    assert n_passes == (9 - 4) * passes_a_step


@pytest.mark.parametrize(
    "name", ["pdu_gd", "dual_optim", "grad_surgery", "rmu", "undial", "altpo_gd", "task_vector"]
)
def test_methods_with_a_state_or_another_gradient_go_on_to_the_same_numbers(
    unlearn_task, fresh, questions, shipped_methods, tmp_path, broken_off, name
):
    """A dual weight is learnt from the second step on, inside the part that is done again."""
    method = shipped_methods[name] | {"epochs": 3}
    if name == "pdu_gd":
        own = {"kind": "primal_dual", "retain_bound": 0.3, "step_size": 5.0}
        method |= {"combination": own | {"warmup_epochs": 0.3}}

    def train(folder=None):
        options = {"checkpoint_minutes": ALWAYS, "micro_batch_size": 1}
        unlearned, log = unlearn_task(fresh(), questions, method, folder, **options)
        return weights_of(unlearned), log

    undisturbed = train()
    resumed, n_passes = broken_off(lambda: train(tmp_path), 4 * 2 + 1)
    assert_same(undisturbed, resumed)
    assert n_passes == (9 - 4) * 2
    if name == "pdu_gd":
        assert undisturbed[1]["retain_weight"].nunique() == 9 - 1


def test_a_training_that_goes_on_says_where(finetune, tmp_path, broken_off, caplog):
    with caplog.at_level(logging.INFO, "closer_look"):
        broken_off(lambda: finetune(tmp_path), 5)
    assert [line for line in caplog.messages if "resumed" in line] == [
        "Fine-tuning: resumed at step 4 of 9"
    ]


def test_a_training_that_has_ended_goes_on_where_its_result_was_lost(
    finetune, tmp_path, monkeypatch
):
    undisturbed = finetune(tmp_path)
    passes, compute_loss = [], trainer._Trainer.compute_loss

    def counted(self, *args, **kwargs):
        passes.append(None)
        return compute_loss(self, *args, **kwargs)

    monkeypatch.setattr(trainer._Trainer, "compute_loss", counted)
    assert_same(undisturbed, finetune(tmp_path))
    assert len(passes) == 1  # there is no checkpoint after the last step


def test_nothing_is_left_of_another_training(finetune, unlearn, tmp_path):
    finetune(tmp_path)
    unlearn(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_left_where_going_on_would_end_alike(finetune, tmp_path, monkeypatch):
    monkeypatch.setattr(
        finetuning, "gradient_descent", lambda logits, labels: logits.sum() * torch.nan
    )
    with pytest.raises(InputError, match="loss is nan"):
        finetune(tmp_path / "checkpoints")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def saved(monkeypatch):
    """Steps after which a checkpoint was written."""
    steps, complete = [], Checkpoints.complete

    def counted(self, state):
        steps.append(state.global_step)
        complete(self, state)

    monkeypatch.setattr(Checkpoints, "complete", counted)
    return steps


def test_a_short_training_writes_none(finetune, tmp_path, saved):
    finetune(tmp_path, minutes=30)
    assert saved == []


def test_null_writes_none_and_reads_no_weights(finetune, tmp_path, saved, monkeypatch):
    monkeypatch.setattr(checkpoints, "computation_fingerprint", None)
    finetune(tmp_path, minutes=None)
    assert saved == []
    assert list(tmp_path.iterdir()) == []


def test_minutes_are_counted_from_one_checkpoint_to_the_next(
    finetune, tmp_path, saved, monkeypatch
):
    clock = iter(range(0, 10_000, 100))  # seconds, at the start and after each step
    monkeypatch.setattr(checkpoints, "monotonic", lambda: next(clock))
    finetune(tmp_path, minutes=4)
    assert saved == [3, 6]  # of 9; the clock is read once more for each


def test_the_checkpoint_before_is_removed(tmp_path):
    kept = Checkpoints(tmp_path, ALWAYS, "X")
    for step in (1, 2):
        state = SimpleNamespace(global_step=step, epoch=1.0)
        kept.written(state).mkdir(parents=True)
        kept.complete(state)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]


def test_half_a_checkpoint_is_never_taken_for_one(finetune, tmp_path, monkeypatch, broken_off):
    """Broken off while the Trainer's own files are written, after all but one of them."""
    undisturbed = finetune()
    save = trainer._Trainer._save_rng_state

    def dies(self, folder):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        save(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Trainer, "_save_rng_state", dies)
        with pytest.raises(KeyboardInterrupt):
            finetune(tmp_path)
    assert len(list(tmp_path.glob("*/partial/checkpoint-3/optimizer.pt"))) == 1
    resumed, n_passes = broken_off(lambda: finetune(tmp_path), 6)  # it dies again later
    assert_same(undisturbed, resumed)
    assert n_passes == 9 - (2 + 5)


def test_without_room_training_goes_on_without(finetune, tmp_path, saved, monkeypatch, caplog):
    usage = SimpleNamespace(free=3 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert_same(finetune(), finetune(tmp_path))
    assert saved == []
    (line,) = set(caplog.messages)
    assert line.startswith("Fine-tuning: no checkpoint: it may need 64 MB, but ")
    assert line.endswith(" has 3 MB left")


def test_key_tells_apart_what_determines_a_training(fresh):
    language_model, other = fresh(), fresh()
    with torch.no_grad():
        other.model.lm_head.weight[0, 0] += 1
    configured = fresh()
    configured.model.config.rms_norm_eps *= 2
    rows = [{"row": ([1, 2], [3]), "nll": 0.1, "states": torch.ones(2)}]
    keys = [
        training_key(language_model, rows, {"learning_rate": 1e-3}),
        training_key(other, rows, {"learning_rate": 1e-3}),
        training_key(configured, rows, {"learning_rate": 1e-3}),
        training_key(language_model, rows, {"learning_rate": 1e-4}),
        training_key(language_model, rows * 2, {"learning_rate": 1e-3}),
        *(
            training_key(language_model, [rows[0] | change], {"learning_rate": 1e-3})
            for change in (
                {"row": ([1], [2, 3])},
                {"nll": np.nextafter(0.1, 1)},
                {"states": torch.tensor([1, 1 + 1e-7])},
            )
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert training_key(fresh(), copy.deepcopy(rows), {"learning_rate": 1e-3}) == keys[0]


@pytest.mark.parametrize("change", [{"learning_rate": 4e-3}, {"forget": "idk"}, {"seed": 2}, LORA])
def test_checkpoint_of_another_training_is_never_resumed(unlearn, tmp_path, broken_off, change):
    undisturbed = unlearn(**change)
    _, n_passes = broken_off(lambda: unlearn(tmp_path / "other"), 5)
    assert n_passes == 5  # or nothing is shown here
    broken = iter([{}, change])
    resumed, n_passes = broken_off(lambda: unlearn(tmp_path, **next(broken)), 5)
    assert_same(undisturbed, resumed)
    assert n_passes == 9


def npo(logits, labels, reference_nll, beta=0.1):
    return losses.npo(logits, labels, reference_nll, beta)  # by other code


@pytest.mark.parametrize(
    "patch",
    [
        lambda patch: patch.setitem(losses.FORGET, "npo", losses.Loss(npo, "NPO", "")),
        lambda patch: patch.setattr(trainer, "code_fingerprint", lambda function: {"other": "1"}),
        lambda patch: patch.setattr(unlearning, "code_hash", lambda code: f"another {code}"),
    ],
    ids=["loss", "training", "objective"],
)
def test_checkpoint_by_other_code_is_never_resumed(
    unlearn, tmp_path, broken_off, monkeypatch, patch
):
    undisturbed = unlearn()
    codes = iter([lambda monkeypatch: None, patch])

    def train():
        next(codes)(monkeypatch)
        return unlearn(tmp_path)

    resumed, n_passes = broken_off(train, 5)
    assert_same(undisturbed, resumed)
    assert n_passes == 9


def test_code_of_a_training_is_all_that_makes_its_weights():
    code = code_fingerprint(unlearning._unlearn)
    assert {"train", "Objective", "LossTerm", "OutputHead", "negated", "DualOptim"} <= code.keys()
    assert {"train", "gradient_descent"} <= code_fingerprint(finetuning._finetune).keys()


def test_how_often_one_is_written_makes_no_other_training(finetune, tmp_path, broken_off):
    minutes = iter([ALWAYS, 30])
    _, n_passes = broken_off(lambda: finetune(tmp_path, minutes=next(minutes)), 5)
    assert n_passes == 5


@pytest.mark.parametrize("library", ["torch", "transformers", "accelerate", "peft"])
def test_training_by_another_version_of_a_library_is_another(fresh, monkeypatch, library):
    before = training_key(fresh(), [], {})
    monkeypatch.setattr(getattr(checkpoints, library), "__version__", "0")
    assert training_key(fresh(), [], {}) != before


def test_checkpoint_of_another_method_on_the_same_rows_is_never_resumed(
    unlearn, tmp_path, broken_off
):
    undisturbed = unlearn(forget="maximum_entropy")
    methods = iter(["gradient_ascent", "maximum_entropy"])
    resumed, n_passes = broken_off(lambda: unlearn(tmp_path, next(methods)), 5)
    assert_same(undisturbed, resumed)
    assert n_passes == 9


def test_key_tells_apart_tensors_whose_middle_differs(fresh):
    """Of which Python shows the ends alone."""
    ones, other = torch.ones(2000), torch.ones(2000).index_fill(0, torch.tensor([1000]), 2)
    keys = {training_key(fresh(), [{"states": states}], {}) for states in (ones, other)}
    assert len(keys) == 2


@pytest.mark.parametrize("copies", [3, 4], ids=["no moments", "moments"])
def test_room_is_for_the_optimiser_s_moments_too(
    fresh, finetune, tmp_path, saved, monkeypatch, copies
):
    """Of weights, two moments, and the weights that are kept."""
    size = sum(weight.numel() * weight.element_size() for weight in fresh().model.parameters())
    usage = SimpleNamespace(free=SPARE_BYTES + copies * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    finetune(tmp_path)
    assert bool(saved) == (copies == 4)


@pytest.mark.parametrize("copies", [5, 6], ids=["no moments", "moments"])
def test_room_is_for_the_moments_of_both_optimisers(
    fresh, questions, unlearn_task, shipped_methods, tmp_path, saved, monkeypatch, copies
):
    size = sum(weight.numel() * weight.element_size() for weight in fresh().model.parameters())
    usage = SimpleNamespace(free=SPARE_BYTES + copies * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    own = shipped_methods["dual_optim"]
    unlearn_task(fresh(), questions, own, tmp_path, checkpoint_minutes=ALWAYS)
    assert bool(saved) == (copies == 6)


def test_key_tells_apart_tensors_of_other_shapes(fresh):
    shapes = [(2, 3), (3, 2), (6,)]
    keys = {training_key(fresh(), [{"states": torch.ones(shape)}], {}) for shape in shapes}
    assert len(keys) == len(shapes)
