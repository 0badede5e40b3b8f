"""Check a GPU in five minutes: does it compute what a CPU computes, and how fast?

    python benchmarks/gpu_check.py [--rows FOLDER] [--output FILE] [--seconds 300]

It asks no other machine for anything: models are random, of published sizes. Every check has a time
of its own; what does not fit into the whole is left out and named. Without a GPU it ends at once.
The exit status is 1 if a GPU computes something else than the CPU, or a method fails.

``--device cpu --tiny`` runs the same code on a CPU and small models; its times say nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import signal
import sys
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from gpu_equality import check_equality, check_methods
from gpu_speed import check_attention, check_evaluation, check_training
from rich.console import Console
from rich.table import Table
from setups import ROOT
from shapes import INVENTED, load_rows, n_weights, peak_flops

BYTES_A_WEIGHT = 20  # in training: weight, gradient and two moments in fp32, and some to compute
LEAST_SECONDS = 5  # in which a check may say something


class TimeUpError(BaseException):
    """Raised in the middle of a check; no ``except Exception`` of a library may keep it."""


class Check:
    """The results of one check, as they come: those of a check that is cut short count, too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "passed"
        self.seconds = 0.0
        self.results: list[dict[str, object]] = []

    def found(self, what: str, **values: float) -> None:
        """Keep measured values by their names, which end in their units."""
        self.results.append({"what": what} | {name: float(one) for name, one in values.items()})

    def note(self, what: str, text: str) -> None:
        """Keep a reason or a choice."""
        self.results.append({"what": what, "note": text})

    def fail(self, what: str, reason: str) -> None:
        """Keep a failure, and go on."""
        self.state = "failed"
        self.results.append({"what": what, "failed": reason})

    def expect(self, what: str, difference: float, limit: float) -> None:
        """Keep a difference, which fails above its limit, or if it is not a number."""
        self.found(what, difference=difference, limit=limit)
        if not difference <= limit:
            self.fail(what, f"differs by {difference:.2g}, more than {limit:g}")


@contextmanager
def within(seconds: float):
    """Raise ``TimeUpError`` in the block when its time is up."""

    def stop(_signal, _frame):
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def checks():
    """List the checks in their order: name, seconds that it may take, function, model, options.

    The attention kernels come last: to compile them takes long, and no other check needs them.
    """
    yield "equality", 60, check_equality, "135M", {}
    yield "methods", 60, check_methods, "135M", {}
    for shape in ("135M", "1B", "3B"):
        yield "training", 45, check_training, shape, {}
    for shape in ("135M", "1B"):
        yield "evaluation", 30, check_evaluation, shape, {}
    for shape in ("135M", "1B"):
        yield "attention", 60, check_attention, shape, {}


def tiny_checks():
    """List them for a CPU, each once, with small models and few rows, whatever time they take."""
    options = {
        check_methods: {"keys": ["npo_kl", "dual_optim", "grad_surgery", "rmu", "task_vector"]},
        check_training: {"rows": 2, "steps": 5},
        check_evaluation: {"rows": 2},
        check_attention: {"rows": 2},
    }
    once = {function: name for name, _, function, *_ in checks()}
    for function, name in once.items():
        yield name, math.inf, function, "tiny", options.get(function, {})


def run(check, seconds, work):
    """Do the work of a check; say in its state how it ended."""
    began = time.perf_counter()
    try:
        with within(seconds):
            work(check)
    except TimeUpError:
        check.state = "out of time" if check.state == "passed" else check.state
    except Exception as error:  # the others go on, whatever it is
        check.fail(type(error).__name__, str(error).splitlines()[0] if str(error) else "-")
    check.seconds = time.perf_counter() - began


def main(arguments: list[str]) -> int:
    """Run the checks, print them and write them; return the exit status."""
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: skipped, torch finds no CUDA GPU on this machine")
        return 0
    torch.set_float32_matmul_precision("highest")  # no TF32
    questions = load_rows(options.rows)
    console, done = Console(), []
    began = time.perf_counter()
    # The Trainer refuses bf16 on a CPU, where it is slow.
    bf16 = "transformers.training_args.is_torch_bf16_gpu_available"
    with mock.patch(bf16, lambda: True) if options.device == "cpu" else nullcontext():
        for name, seconds, function, shape, own in tiny_checks() if options.tiny else checks():
            check = Check(f"{name}, {shape}")
            done.append(check)
            left = options.seconds - (time.perf_counter() - began)
            reason = lacking_memory(shape) if options.device == "cuda" else None
            if left < LEAST_SECONDS:
                reason = "no time left"
            if reason:
                check.state = f"left out: {reason}"
            else:
                work = partial(function, device=options.device, shape=shape, questions=questions)
                run(check, min(seconds, left), partial(work, **own))
            console.print(table(check))
            write(options.output, options.device, done)
    for state in ("failed", "out of time", "left out"):
        names = [check.name for check in done if check.state.startswith(state)]
        if names:
            console.print(f"{state}: {'; '.join(names)}", highlight=False, soft_wrap=True)
    console.print(f"Results: {options.output}", highlight=False, soft_wrap=True)
    must_hold = [check for check in done if check.name.startswith(("equality", "methods"))]
    return int(any(check.state == "failed" for check in must_hold))


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, default=INVENTED, help="TOFU's rows, or as in there")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu_check.json")
    parser.add_argument("--seconds", type=float, default=300, help="for all checks together")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models: does the code run?")
    return parser.parse_args(arguments)


def lacking_memory(shape):
    """Return why a model does not fit here; None if it does."""
    gc.collect()  # the model of the check before
    torch.cuda.empty_cache()
    free, needed = torch.cuda.mem_get_info()[0], n_weights(shape) * BYTES_A_WEIGHT
    if needed > free:
        return f"it takes {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free"
    return None


def table(check):
    """Make a table of a check's results."""
    title = f"{check.name}: {check.state}, {check.seconds:.0f} s"
    made = Table("", "", title=title, title_justify="left", show_header=False)
    for result in check.results:
        values = {name: one for name, one in result.items() if name != "what"}
        cells = (one if isinstance(one, str) else f"{one:.4g} {n}" for n, one in values.items())
        made.add_row(str(result["what"]), "  ".join(cells).replace("_", " "))
    return made


def write(path, device, done):
    """Write what there is so far."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    found = {
        "device": name,
        "peak_bf16_flops": peak_flops(name) if device == "cuda" else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "checks": [vars(check) for check in done],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
