"""The check of a GPU runs on a CPU with small models, and tells what went wrong."""

import copy
import json
import time
from contextlib import suppress
from types import SimpleNamespace

import gpu_check
import gpu_equality
import pytest
import torch
from setups import METHODS
from shapes import (
    INVENTED,
    draw,
    load_rows,
    make_model,
    n_weights,
    peak_flops,
    step_flops,
)
from torch.utils.flop_counter import FlopCounterMode

from closer_look.models.packing import answer_logits, pack, packed_attention
from closer_look.models.tokens import Tokens


@pytest.fixture(scope="module")
def rows():
    return load_rows(INVENTED)


@pytest.fixture
def check(monkeypatch, tmp_path):
    """Run some checks in place of all: the exit status, and each one as it was written."""

    def check(*functions, seconds=60.0, whole=300.0, names=None):
        names = names or [f"check {number}" for number, _ in enumerate(functions)]
        chosen = [
            (name, seconds, one, "tiny", {}) for name, one in zip(names, functions, strict=True)
        ]
        monkeypatch.setattr(gpu_check, "tiny_checks", lambda: chosen)
        output = tmp_path / "build" / "gpu_check.json"
        options = ["--device", "cpu", "--tiny", "--seconds", str(whole), "--output", str(output)]
        status = gpu_check.main(options)
        return status, json.loads(output.read_text(encoding="utf-8"))["checks"]

    return check


def test_every_check_runs(tmp_path, capsys):
    output = tmp_path / "found.json"
    assert gpu_check.main(["--device", "cpu", "--tiny", "--output", str(output)]) == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    assert [one["name"] for one in found["checks"]] == [
        *("equality, tiny", "methods, tiny", "training, tiny"),
        *("evaluation, tiny", "attention, tiny"),
    ]
    assert {one["state"] for one in found["checks"]} == {"passed"}
    equality, methods, training, evaluation, attention = (
        {result.pop("what"): result for result in one["results"]} for one in found["checks"]
    )
    assert all(result["difference"] == 0 for result in equality.values())  # one device, twice
    assert {"RMU, forget_loss", "NPO+KL, gradients", "scores", "generations"} < set(equality)
    assert methods["RMU"]["weights_changed"] < methods["NPO+KL"]["weights_changed"]
    assert set(training) == {"here", "padded to the longest", "padded to 500"}
    assert all(result["tokens_a_s"] > 0 for result in [*training.values(), *evaluation.values()])
    assert attention["two answers, groups"]["ms_a_pass"] > 0
    assert attention["rows, varlen"] == {"note": "runs on CUDA only"}
    assert attention["rows, flex"]["note"].startswith("NotImplementedError: FlexAttention does")
    assert attention["rows, fastest"] == {"note": "groups"}
    printed = capsys.readouterr().out
    assert "padded to the longest" in printed
    assert str(output) in printed


def test_every_method_that_trains_is_tried_where_there_is_a_gpu():
    (options,) = [own for *_, function, _, own in gpu_check.checks() if "methods" in str(function)]
    assert options == {}  # those of the files
    assert len(list(METHODS.glob("*.yml"))) > 20


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_is_done(capsys):
    assert gpu_check.main([]) == 0
    message = "gpu-check: skipped, torch finds no CUDA GPU on this machine\n"
    assert capsys.readouterr().out == message


def test_a_device_that_computes_otherwise_fails_and_the_others_go_on(check, monkeypatch):
    """A copy with weights a tenth larger: each comparison shows it."""

    def otherwise(model):
        copied = copy.deepcopy(model)
        with torch.no_grad():
            copied.model.layers[1].mlp.up_proj.weight[3] *= 1.1
        return copied

    monkeypatch.setattr(gpu_equality, "copy", SimpleNamespace(deepcopy=otherwise))
    monkeypatch.setattr(gpu_equality, "COMPARED", ("idk_ap",))
    status, (equality, other) = check(
        gpu_equality.check_equality, lambda one, **_: None, names=["equality", "other"]
    )
    assert (status, equality["state"], other["state"]) == (1, "failed", "passed")
    failed = {
        result["what"]: result["failed"] for result in equality["results"] if "failed" in result
    }
    assert {"IDK+AP, gradients", "scores"} <= set(failed)
    assert failed["IDK+AP, gradients"].endswith("more than 0.001")


def test_a_difference_that_is_no_number_fails():
    one = gpu_check.Check("equality")
    one.expect("a loss", float("nan"), 1e-3)
    assert one.state == "failed"


def test_a_check_that_fails_is_told_and_the_others_go_on(check, capsys):
    def fails(one, **_):
        one.found("before", s=1)
        raise RuntimeError("no kernel image\nis available")

    status, (failed, other) = check(fails, lambda one, **_: one.found("after", s=2))
    assert status == 0  # nothing is wrong, but something is not measured
    assert failed["results"] == [
        {"what": "before", "s": 1},
        {"what": "RuntimeError", "failed": "no kernel image"},
    ]
    assert (failed["state"], other["state"]) == ("failed", "passed")
    assert "failed: check 0, tiny\n" in capsys.readouterr().out


def test_what_takes_too_long_is_cut_short_and_what_has_no_time_left_is_named(check, capsys):
    def slow(one, **_):
        one.found("first", s=1)
        with suppress(Exception):  # as a library may
            time.sleep(30)

    began = time.perf_counter()
    status, (first, second) = check(slow, slow, seconds=0.2, whole=gpu_check.LEAST_SECONDS + 0.1)
    assert time.perf_counter() - began < 10
    assert (status, first["state"]) == (0, "out of time")
    assert first["results"] == [{"what": "first", "s": 1}]
    assert (second["state"], second["results"]) == ("left out: no time left", [])
    printed = capsys.readouterr().out
    assert "out of time: check 0, tiny\nleft out: check 1, tiny\n" in printed


def test_a_model_that_does_not_fit_is_left_out_with_its_size(monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (40e9, 48e9))
    assert gpu_check.lacking_memory("1B") is None
    assert gpu_check.lacking_memory("3B") == "it takes 64 GB, 40 GB are free"


def test_models_have_their_published_sizes():
    # Of the models' pages: 135M, 1.23B and 3.21B.
    sizes = {shape: n_weights(shape) / 1e6 for shape in ("135M", "1B", "3B")}
    assert sizes == pytest.approx({"135M": 134.5, "1B": 1235.8, "3B": 3212.7}, abs=0.1)


def test_operations_of_a_step_are_those_that_torch_counts(rows):
    model = make_model("tiny", rows, "cpu").model
    batch = pack([Tokens([5, 6, 7] * 9, [8] * 5), Tokens([5, 6, 7] * 9, [9] * 40)])
    with packed_attention(model), FlopCounterMode(display=False) as counter:
        answer_logits(model, batch).sum().backward()
    products = sum(
        n for one, n in counter.get_flop_counts()["Global"].items() if "attention" not in str(one)
    )
    attention = step_flops(model.config, batch) - products
    # 4 heads of 16 in each of 2 layers: 31 tokens see themselves and those before, then 39 more.
    seen = 31 * 32 / 2 + sum(range(28, 67))
    assert attention == 12 * 2 * 64 * seen


def test_the_peak_is_that_of_the_named_device():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 NVL") == 835e12
    assert peak_flops("Tesla T4") is None


def test_tofu_rows_are_read_by_their_published_names(published_rows):
    tofu = load_rows(published_rows / "tofu")
    assert tofu["split"].value_counts().to_dict() == {"forget": 400, "retain": 400}
    assert len(draw(tofu, 100)) == 100  # in three epochs
