"""What a plan says of a training is what the training takes, byte for byte or nearly so.

Here all tensors are counted that live at a time; ``test_memory_of_the_process`` and
``benchmarks/bench_plan.py`` measure the process.
"""

import copy
import json
import os
import subprocess
import sys
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from closer_look.data.planning import plan_of_task
from closer_look.models.blueprint import blueprint
from closer_look.models.language_model import LanguageModel
from closer_look.models.prompts import set_prompt
from closer_look.models.small_llama import small_llama
from closer_look.models.tokens import encode
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.models import BaseModelParameters
from closer_look.parameters.training import FinetuningParameters, UnlearningParameters
from closer_look.training import needs
from closer_look.training.finetuning import finetune
from closer_look.training.followed_step import Hardware
from closer_look.training.reference import reference_scores
from closer_look.training.unlearning import unlearn

SIZES = {"vocabulary_size": 600, "hidden_size": 128, "intermediate_size": 352, "layers": 4}
SIZES |= {"heads": 4, "context_length": 128, "initializer_range": 0.02, "seed": 1}
BASE = BaseModelParameters(small_llama=SIZES, prompt="plain")
SETTINGS = {"learning_rate": 1e-5, "epochs": 2, "batch_size": 4, "warmup_epochs": 0, "seed": 1}
HERE = Hardware(on_cpu=True)
LORA = {"rank": 8, "dropout": 0.1}


class Alive(TorchDispatchMode):
    """Counts the bytes of tensors made inside that are alive at a time."""

    def __init__(self, there):
        super().__init__()
        self.live = self.peak = 0
        self.known = weakref.WeakSet(one.untyped_storage() for one in there)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        for one in tree_leaves(outputs):
            if isinstance(one, torch.Tensor) and one.layout == torch.strided:
                self.count(one.untyped_storage())
        return outputs

    def count(self, storage):
        if storage in self.known:
            return
        self.known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.forget, size)

    def forget(self, size):
        self.live -= size


@pytest.fixture(scope="module")
def questions(make_questions):
    """Rows of one length, so that every step is the heaviest."""
    rows = make_questions(("forget", 1, 8), ("retain", 0, 8))
    longer = {
        name: rows[name].str.replace(r"\d+", "", regex=True) + " and so on" * 8
        for name in ("question", "answer")
    }
    numbered = [f"Row {n % 8}: " for n in range(len(rows))]
    return rows.assign(**longer | {"question": numbered + longer["question"]})


@pytest.fixture(scope="module")
def base(questions):
    made = small_llama([*questions["question"], *questions["answer"]], BASE.small_llama)
    set_prompt(made.tokenizer, "plain")
    return made


@pytest.fixture
def made(base):
    """The model, to be trained."""
    return LanguageModel(copy.deepcopy(base.model), base.tokenizer)


def size_of(tensors):
    return sum(one.numel() * one.element_size() for one in tensors)


@pytest.fixture(scope="module")
def build(base):
    return lambda: blueprint(BASE, len(base.tokenizer))


@pytest.fixture(scope="module")
def compared(base, build, questions, shipped_methods):
    """A function that trains two steps and more, and gives the peak beside the planned one."""
    known = {}

    def compared(name, own=None, **options):
        key = json.dumps([name, own, options])
        if key not in known:
            known[key] = compare(name, own, options)
        return known[key]

    def compare(name, own, options):
        made = LanguageModel(copy.deepcopy(base.model), base.tokenizer)
        method = MethodParameters.model_validate(shipped_methods[name] | (own or {}))
        method = method.model_copy(update={"epochs": None})
        settings = UnlearningParameters(**SETTINGS | options)
        plan = plan_of_task(questions, ["No, I do not."], 1, epochs=2, pairing="fixed", seed=1)
        plan = plan.assign(alternate="Another answer" + " and so on" * 8)
        scores = reference_scores(made, plan, questions, method, 4)
        parts = (scores.output_head, scores.hidden_states, scores.activations)
        held = [one for part in parts for one in part.values()]
        there = [*made.model.parameters(), *held]
        with Alive(there) as alive:
            unlearn(made, plan, questions, scores, method, settings)
        planned = needs.of_method(build, made.tokenizer, method, settings, [plan], questions, HERE)
        return planned, planned.device + planned.kept, size_of(there) + alive.peak

    return compared


@pytest.mark.parametrize(
    "name",
    [
        *("ga_gd", "me_gd", "idk_ap", "npo_kl", "undial", "rmu", "flat", "altpo_gd"),
        *("dual_optim", "grad_surgery", "pdu_gd", "task_vector"),
    ],
)
def test_peak_of_a_method(compared, name):
    _, planned, peak = compared(name)
    assert planned == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_checkpointing": True},
        {"micro_batch_size": 1},
        {"lora": LORA},
        {"lora": LORA, "gradient_checkpointing": True},
        {"max_retain_loss": 100.0},
    ],
    ids="+".join,
)
def test_peak_with_settings(compared, options):
    _, planned, peak = compared("me_gd", **options)
    assert planned == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_peak_in_half_precision(compared, checkpointing, monkeypatch):
    """On the CPU, which can, if slowly; autocast keeps halves of all weights."""
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    options = {"precision": "bf16", "gradient_checkpointing": checkpointing, "micro_batch_size": 1}
    _, planned, peak = compared("ga_gd", **options)
    assert planned == pytest.approx(peak, rel=0.1)


def test_peak_with_few_trained_weights(compared):
    planned, whole, peak = compared("ga_gd", {"trainable": [r".*layers\.3\.mlp.*"]})
    assert whole == pytest.approx(peak, rel=0.1)
    assert planned.gradients == 3 * 128 * 352 * 4
    assert planned.moments == 2 * planned.gradients


def test_peak_of_finetuning(made, build, questions):
    settings = FinetuningParameters(**SETTINGS)
    asked, answers = list(questions["question"]), list(questions["answer"])
    rows = encode(made.tokenizer, asked, answers)
    there = list(made.model.parameters())
    with Alive(there) as alive:
        finetune(made, asked, answers, settings)
    planned = needs.of_finetuning(build, rows, settings, HERE)
    assert planned.device == pytest.approx(size_of(there) + alive.peak, rel=0.1)
    assert (
        len(rows) < planned.tokens / 2 <= sum(map(len, rows))
    )  # two epochs; they share beginnings


def test_workers_are_handed_copies_on_the_disk(made, build, questions):
    rows = encode(made.tokenizer, list(questions["question"]), list(questions["answer"]))
    one, two = (
        needs.of_finetuning(build, rows, FinetuningParameters(**SETTINGS, workers=n), HERE)
        for n in (1, 2)
    )
    assert two.checkpoint == one.checkpoint + 2 * size_of(made.model.parameters())


def test_moments_are_those_of_the_optimiser(compared):
    two, four = (compared(name)[0].moments for name in ("me_gd", "dual_optim"))
    assert four == 2 * two


def test_operations_are_six_for_each_weight_and_token(compared, build):
    planned, _, _ = compared("ga_gd")
    # Products of the layers, and of the head where an answer stands; gradients take twice as much.
    layers = [one for one in build().model.layers.parameters() if one.dim() == 2]
    in_layers = 6 * sum(one.numel() for one in layers) * planned.tokens
    assert in_layers < planned.flops < 1.6 * in_layers


def test_tokens_are_those_of_all_rows_and_epochs(compared, made, questions):
    planned, _, _ = compared("ga_gd")
    rows = encode(made.tokenizer, list(questions["question"]), list(questions["answer"]))
    assert planned.tokens <= 2 * sum(map(len, rows))  # rows share their beginnings
    assert planned.tokens > sum(map(len, rows))


def test_two_answers_to_a_question_are_more_tokens(compared):
    one, two = (compared(name)[0].tokens for name in ("idk_gd", "idk_ap"))
    assert two > one


class TestSeveralDevices:
    def planned(self, made, build, questions, shipped_methods, hardware):
        method = MethodParameters.model_validate(shipped_methods["ga_kl"])
        settings = UnlearningParameters(**SETTINGS)
        plan = plan_of_task(questions, ["No."], 1, epochs=2, pairing="fixed", seed=1)
        return needs.of_method(build, made.tokenizer, method, settings, [plan], questions, hardware)

    def test_each_has_its_part(self, made, build, questions, shipped_methods):
        given = (made, build, questions, shipped_methods)
        one, two = (self.planned(*given, Hardware(False, n)) for n in (1, 2))
        for name in ("weights", "gradients", "moments"):
            assert getattr(two, name) == pytest.approx(getattr(one, name) / 2, rel=0.01)
        assert two.reference == one.reference  # the frozen head is on each
        assert two.flops == pytest.approx(one.flops, rel=0.05)

    def test_or_all_of_it(self, made, build, questions, shipped_methods):
        given = (made, build, questions, shipped_methods)
        one = self.planned(*given, Hardware(False))
        two = self.planned(*given, Hardware(False, 2, sharded=False))
        assert two.moments == one.moments
        assert two.activations < one.activations  # of half the rows


def test_half_precision_keeps_copies_of_the_weights(made, build, questions, shipped_methods):
    """And master weights, gradients and moments stay in fp32."""
    method = MethodParameters.model_validate(shipped_methods["ga_gd"])
    plan = plan_of_task(questions, ["No."], 1, epochs=2, pairing="fixed", seed=1)
    on = Hardware(on_cpu=False)
    full, half = (
        needs.of_method(
            build,
            made.tokenizer,
            method,
            UnlearningParameters(**SETTINGS, precision=precision),
            [plan],
            questions,
            on,
        )
        for precision in ("fp32", "bf16")
    )
    assert (half.weights, half.moments) == (full.weights, full.moments)
    assert half.gradients == full.gradients
    assert half.activations != full.activations


def measure(root, method, sizes, settings):
    """Train in a process of its own; glibc keeps no holes there (see docs/scale.md)."""
    sizes = {"hidden_size": 512, "intermediate_size": 1408, "layers": 8, "heads": 8} | sizes
    script = root / "benchmarks" / "peak_of_training.py"
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(script), method, json.dumps(sizes), json.dumps(settings)],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_memory_of_the_process(root):
    found = measure(root, "ga_gd", {"layers": 4}, {"batch_size": 4})
    assert found["planned"] == pytest.approx(found["measured"], rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sizes", "settings"),
    [
        ("npo_kl", {"layers": 4}, {"batch_size": 8, "lora": LORA}),
        ("ga_gd", {}, {"batch_size": 8, "workers": 2}),
        ("idk_ap", {"layers": 4}, {"batch_size": 16, "gradient_checkpointing": True}),
    ],
)
def test_memory_of_processes(root, method, sizes, settings):
    found = measure(root, method, sizes, settings)
    assert found["planned"] == pytest.approx(found["measured"], rel=0.15)
