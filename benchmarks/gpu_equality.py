"""What a GPU computes: the same as a CPU in fp32, and every method's step in bf16."""

from __future__ import annotations

import copy
import time

import torch
from accelerate.utils import send_to_device
from setups import METHODS, load_method
from shapes import draw, make_model

from closer_look.errors import InputError
from closer_look.inference.decoding import choose_decoder
from closer_look.inference.scoring import score
from closer_look.models.output_head import OutputHead
from closer_look.models.packing import packed_attention
from closer_look.models.tokens import encode_prompts
from closer_look.parameters.training import UnlearningParameters
from closer_look.training.objective import Objective
from closer_look.training.reference import reference_scores
from closer_look.training.unlearning import unlearn

ROWS = 4
COMPARED = ("npo_kl", "idk_ap", "rmu")  # between them they read all that losses read
NEW_TOKENS = 16

LOSS, GRADIENT, NLL, LEAD = 1e-5, 1e-3, 1e-4, 1e-3
"""Limits of a hundred times the distance of fp32 from fp64 on a CPU, with a model of 135M weights:
1e-7 of a loss, 7e-6 of a weight's gradient, 1.5e-6 nats a token. The last is in logits: where the
CPU hardly prefers a token to another, it stands for a tie."""


def check_equality(check, device, shape, questions):
    """Compare losses, gradients, scores and generations with those of the CPU, in fp32."""
    here = make_model(shape, questions, "cpu")
    there = here._replace(model=copy.deepcopy(here.model).to(device))
    plan = draw(questions, ROWS)
    for key in COMPARED:
        method = load_method(key)
        losses, gradients = losses_and_gradients(here, plan, questions, method)
        other_losses, others = losses_and_gradients(there, plan, questions, method)
        for name, loss in losses.items():
            difference = abs(other_losses[name] - loss) / max(abs(loss), 1)  # some begin at 0
            check.expect(f"{method.label}, {name}", difference, LOSS)
        check.expect(f"{method.label}, gradients", worst(gradients, others), GRADIENT)
    rows = questions.groupby("split").head(2 * ROWS)
    given = list(rows["question"]), list(rows["answer"])
    ours, theirs = (score(one, *given, batch_size=2 * ROWS) for one in (here, there))
    differences = (ours["nll"] - theirs["nll"]).abs() / ours["n_tokens"]
    check.expect("scores", differences.max(), NLL)
    check.expect("generations", parted(here, there, given[0][:ROWS]), LEAD)


def losses_and_gradients(language_model, plan, questions, method):
    """Compute a method's losses on the rows of a plan, and the gradient of their weighted sum."""
    model = language_model.model
    reference = reference_scores(language_model, plan, questions, method, len(plan))
    head = OutputHead(model, reference.output_head) if reference.output_head else None
    objective = Objective(method)
    batch = objective.collate(
        objective.encode(language_model.tokenizer, plan, questions, reference)
    )
    model.train()
    model.zero_grad()
    longest = max(batch.get("path_lengths", [8]))
    with packed_attention(model, longest):
        losses = objective.losses(model, send_to_device(batch, model.device), head)
        weighted = [getattr(method, name[:-5]).weight * one for name, one in losses.items()]
        sum(weighted).backward()
    gradients = {
        name: one.grad.cpu() for name, one in model.named_parameters() if one.grad is not None
    }
    return {name: one.item() for name, one in losses.items()}, gradients


def worst(gradients, others):
    """Return the largest distance of two gradients of a weight, as a share of the first's norm."""
    return max((others[name] - one).norm() / one.norm() for name, one in gradients.items()).item()


@torch.inference_mode()
def parted(here, there, asked):
    """Return the largest lead of a token of the CPU's over that which the GPU chose in its place.

    Only the first that differs in an answer counts; behind it the texts are others.
    """
    prompts = encode_prompts(here.tokenizer, asked)
    room = [NEW_TOKENS] * len(prompts)
    answers = []
    for model in (here.model.eval(), there.model.eval()):
        decode = choose_decoder(model, prompts, max(map(len, prompts)) + NEW_TOKENS)
        answers.append(decode(model, prompts, room, set()))
    leads = [0.0]
    for prompt, *both in zip(prompts, *answers, strict=True):
        pairs = list(zip(*both, strict=False))[:NEW_TOKENS]
        n = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
        if n is not None:
            text = torch.tensor([prompt + both[0][:n]])
            logits = here.model(input_ids=text).logits[0, -1]
            leads.append((logits[pairs[n][0]] - logits[pairs[n][1]]).item())
    return max(leads)


def check_methods(check, device, shape, questions, keys=None):
    """Make a step of every method (or of some) in bf16 on fp32 weights, as a run makes it."""
    start = make_model(shape, questions, device)
    plan = draw(questions, ROWS)
    settings = {"learning_rate": 1e-4, "epochs": 1, "batch_size": ROWS, "warmup_epochs": 0}
    parameters = UnlearningParameters(**settings, precision="bf16", checkpoint_minutes=None, seed=1)
    for key in keys or sorted(file.stem for file in METHODS.glob("*.yml")):
        method = load_method(key)
        if not method.losses:
            continue  # an instruction trains nothing
        began = time.perf_counter()
        model = start._replace(model=copy.deepcopy(start.model))
        reference = reference_scores(model, plan, questions, method, ROWS)
        try:
            trained, log = unlearn(model, plan, questions, reference, method, parameters)
        except InputError as error:  # a loss that is not finite
            check.fail(method.label, str(error))
            continue
        pairs = zip(trained.model.parameters(), start.model.parameters(), strict=True)
        changed = sum(not torch.equal(*pair) for pair in pairs)
        kept = all(weight.dtype == torch.float32 for weight in trained.model.parameters())
        if not (changed and kept):
            check.fail(method.label, "no weight changed" if kept else "weights are not in fp32")
            continue
        seconds = time.perf_counter() - began
        check.found(method.label, loss=log["loss"].iloc[-1], weights_changed=changed, s=seconds)
