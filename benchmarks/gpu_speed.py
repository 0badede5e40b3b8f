"""How fast a GPU trains, scores, generates and attends, here and on plain padded batches."""

from __future__ import annotations

import copy
import gc
import time
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from statistics import median
from unittest import mock

import published
import torch
from accelerate.utils import send_to_device
from setups import load_method
from shapes import draw, make_model, peak_flops, step_flops
from steps import stepper

from closer_look.data.questions import given_answers
from closer_look.errors import InputError
from closer_look.inference.generation import generate
from closer_look.inference.scoring import score
from closer_look.losses import gradient_descent
from closer_look.models.packing import FLEX, PACKED, VARLEN, answer_logits, pack, packed_attention
from closer_look.models.tokens import Tokens, encode, encode_prompts
from closer_look.parameters.training import UnlearningParameters
from closer_look.training.objective import Objective
from closer_look.training.reference import reference_scores
from closer_look.training.unlearning import unlearn

METHOD = "npo_gd"  # its loss reads a reference: scores from a cache here, a second model there
ROWS = 16  # to forget in a step, and as many to retain
STEPS, WARM_UP = 10, 2
BATCHES = 4  # of unlike shapes, for which a kernel may have to be compiled
KERNELS = {"groups": PACKED, "flex": FLEX, "varlen": VARLEN}
SYSTEM = 256  # tokens of a long system message, which rows share
NEW_TOKENS = 64
SCORED_LENGTH = 200  # to which the published protocol pads


def check_training(check, device, shape, questions, rows=ROWS, steps=STEPS):
    """Time steps in bf16 on weights in fp32, and measure their peak of memory."""
    made = make_model(shape, questions, device)
    plan = draw(questions, rows * steps)
    method = load_method(METHOD)
    by_id = questions.set_index("row_id")
    used = by_id.loc[[*plan["forget_row_id"], *plan["retain_row_id"]]]
    encoded = encode(made.tokenizer, list(used["question"]), list(used["answer"]))
    n_tokens = sum(map(len, encoded)) / steps
    ways = {
        "here": partial(steps_here, made, plan, questions, method, rows),
        "padded to the longest": partial(steps_padded, made, plan, questions, method, rows, None),
        "padded to 500": partial(steps_padded, made, plan, questions, method, rows, 500),
    }
    for name, way in ways.items():
        with peak_memory(device) as peak:
            try:
                seconds, flops = way()
            except (torch.OutOfMemoryError, InputError) as error:  # here it is an InputError
                check.note(name, str(error).splitlines()[0])
                continue
        speed = {"ms_a_step": 1e3 * seconds, "tokens_a_s": n_tokens / seconds, **peak}
        peak_of_device = peak_flops(torch.cuda.get_device_name()) if device == "cuda" else None
        if flops and peak_of_device:
            speed["utilisation"] = flops / seconds / peak_of_device
        check.found(name, **speed)


def steps_here(made, plan, questions, method, rows):
    """Unlearn as a run does; time from one step's packing to the next.

    Returns:
        The median, and the floating-point operations of an average step.
    """
    parameters = UnlearningParameters(
        **{"learning_rate": 1e-6, "epochs": 1, "batch_size": rows, "warmup_epochs": 0, "seed": 1},
        **{"precision": "bf16", "checkpoint_minutes": None},
    )
    reference = reference_scores(made, plan, questions, method, rows)
    starts, flops = [], []
    collate = Objective.collate

    def timed(objective, *rows):
        starts.append(time.perf_counter())
        batch = collate(objective, *rows)
        flops.append(step_flops(made.model.config, batch))
        return batch

    with mock.patch.object(Objective, "collate", timed):
        unlearn(made, plan, questions, reference, method, parameters)
    return between(starts), sum(flops) / len(flops)


def steps_padded(made, plan, questions, method, rows, length):
    """Make the same steps by the published protocol; no operations are counted."""
    model, reference = made.model, copy.deepcopy(made.model).eval()

    def loss(start):
        batch = plan.iloc[start : start + rows]
        variants = published.tokenise(made.tokenizer, batch, questions, length)
        with torch.autocast(model.device.type, torch.bfloat16):
            return published.loss(model, reference, variants, method)

    batches = range(0, len(plan), rows)
    following = iter(batches)
    step = stepper(model, lambda: loss(next(following)))
    starts = []
    for _ in batches:
        starts.append(time.perf_counter())
        step()
        synchronise(model.device.type)
    return between(starts), None


def check_evaluation(check, device, shape, questions, rows=ROWS):
    """Time scoring of given answers and generation, in fp32, as a run evaluates."""
    made = make_model(shape, questions, device)
    chosen = questions.groupby("split").head(rows).reset_index(drop=True)
    answers = given_answers(chosen)
    given = list(answers["question"]), list(answers["text"])
    n_scored = sum(map(len, encode(made.tokenizer, *given)))
    asked = list(chosen["question"])
    prompts = [len(prompt) for prompt in encode_prompts(made.tokenizer, asked)]
    length = max(prompts) + NEW_TOKENS
    n_room = sum(length - one for one in prompts)  # a random model's answers hardly ever end before
    ways = {
        "scores, here": (partial(score, made, *given, 4 * rows), n_scored),
        "scores, published": (partial(published.score, made, answers, SCORED_LENGTH), n_scored),
        "answers, here": (partial(generate, made, asked, length, 2 * rows), n_room),
        "answers, published": (partial(published.generate, made, chosen, length), n_room),
    }
    score(made, given[0][:rows], given[1][:rows], rows)  # warms up
    generate(made, asked[:1], length, 1)  # and chooses a decoder
    for name, (way, n_tokens) in ways.items():
        began = time.perf_counter()
        way()
        synchronise(device)
        seconds = time.perf_counter() - began
        check.found(name, s=seconds, tokens_a_s=n_tokens / seconds)


def check_attention(check, device, shape, questions, rows=ROWS):
    """Time forward and backward passes in bf16 with each kernel, on real packed batches."""
    made = make_model(shape, questions, device)
    model = made.model.train()
    plan = draw(questions, rows * BATCHES)
    fastest = defaultdict(dict)
    for what, packed in packed_batches(made, plan, questions, rows).items():
        batches = [send_to_device(batch, device) for batch in packed]
        expected = None
        for name, kernel in KERNELS.items():
            if name == "varlen" and device != "cuda":
                check.note(f"{what}, {name}", "runs on CUDA only")
                continue
            try:
                first = timed_passes(model, batches, kernel)  # compiles, for more than one shape
                again = [timed_passes(model, batches, kernel) for _ in range(3)]
                logits = logits_of(model, batches[0], kernel)
            except Exception as error:  # a kernel that a device or version lacks fails in its way
                check.note(f"{what}, {name}", f"{type(error).__name__}: {error}".splitlines()[0])
                continue
            seconds = median(again) / len(batches)
            expected = logits if expected is None else expected
            difference = ((logits - expected).norm() / expected.norm()).item()
            fastest[what][name] = seconds
            check.found(
                f"{what}, {name}",
                ms_a_pass=1e3 * seconds,
                first_s=first,
                difference=difference,
            )
    for what, times in fastest.items():
        check.note(f"{what}, fastest", min(times, key=times.get))


def packed_batches(made, plan, questions, rows):
    """Pack rows of a step that share nothing, questions with two answers, and a long prefix."""
    by_id = questions.set_index("row_id")
    steps = [plan.iloc[start : start + rows] for start in range(0, len(plan), rows)]

    def encoded(chosen, side, answers=None):
        asked = by_id.loc[chosen[f"{side}_row_id"]]
        return encode(made.tokenizer, list(asked["question"]), list(answers or asked["answer"]))

    alone = [encoded(step, "forget") + encoded(step, "retain") for step in steps]
    with_refusals = [
        own + encoded(step, "forget", list(step["refusal"]))
        for own, step in zip(alone, steps, strict=True)
    ]
    system = [1 + i % 200 for i in range(SYSTEM)]
    behind = [[Tokens(system + one.prompt, one.answer) for one in step] for step in alone]
    kinds = {"rows": alone, "two answers": with_refusals, "system message": behind}
    return {what: [pack(step) for step in of_steps] for what, of_steps in kinds.items()}


def timed_passes(model, batches, kernel):
    """Time a forward and a backward pass over each batch."""
    synchronise(model.device.type)
    began = time.perf_counter()
    with packed_attention(model, kernel=kernel):
        for batch in batches:
            with torch.autocast(model.device.type, torch.bfloat16):
                loss = gradient_descent(answer_logits(model, batch), batch["labels"])
            loss.backward()
            model.zero_grad()
    synchronise(model.device.type)
    return time.perf_counter() - began


@torch.no_grad()
def logits_of(model, batch, kernel):
    device = model.device.type
    with packed_attention(model, kernel=kernel), torch.autocast(device, torch.bfloat16):
        return answer_logits(model, batch).float()


def between(starts):
    """Return the median time from one start to the next, behind the warm-up."""
    pairs = list(zip(starts[WARM_UP:], starts[WARM_UP + 1 :], strict=False))
    return median(end - start for start, end in pairs)


@contextmanager
def peak_memory(device):
    """Measure the peak of a device's memory in the block, in GB; nothing on a CPU."""
    found = {}
    gc.collect()  # a Trainer is a reference cycle
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield found
    if device == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()
