"""Unlearning steps here and by published protocols, on batches of four rows."""

import copy
import itertools
from contextlib import contextmanager, nullcontext

import public_benchmark
import published
import torch
from accelerate.utils import send_to_device

from closer_look.models.output_head import OutputHead
from closer_look.models.packing import packed_attention
from closer_look.models.tied_embeddings import tied_embeddings
from closer_look.training.combination import Combination
from closer_look.training.objective import Objective
from closer_look.training.reference import reference_scores

BATCH_SIZE = 4


@contextmanager
def step_here(language_model, plan, questions, method):
    """Provide a function that makes a step with this package, each time on the next batch."""
    reference = reference_scores(language_model, plan, questions, method, BATCH_SIZE)
    weights = reference.output_head
    head = OutputHead(language_model.model, weights) if weights else None
    objective = Objective(method)
    combination = Combination(
        {f"{side}_loss": getattr(method, side).weight for side in method.losses}
    )
    rows = objective.encode(language_model.tokenizer, plan, questions, reference)
    starts = itertools.cycle(range(0, len(rows), BATCH_SIZE))

    def loss():
        start = next(starts)
        batch = objective.collate(rows[start : start + BATCH_SIZE])
        batch = send_to_device(batch, language_model.model.device)
        losses = objective.losses(language_model.model, batch, head)
        return combination.total(losses, language_model.model.parameters())

    tied = nullcontext() if objective.layer_blocks else tied_embeddings(language_model.model)
    with packed_attention(language_model.model), tied:
        yield stepper(language_model.model, loss)


def step_published(language_model, plan, questions, method):
    """Return the same by the published protocol: it holds two copies of the model."""
    model = copy.deepcopy(language_model.model)
    reference_model = copy.deepcopy(language_model.model).eval()
    tokenizer = language_model.tokenizer  # so that the step does not keep the given model alive
    starts = itertools.cycle(range(0, len(plan), BATCH_SIZE))

    def loss():
        start = next(starts)
        batch = plan.iloc[start : start + BATCH_SIZE]
        variants = published.tokenise(tokenizer, batch, questions)
        return published.loss(model, reference_model, variants, method)

    return stepper(model, loss)


def step_of_public_benchmark(language_model, plan, questions, key):
    """Return a function that makes a step by the public benchmark's protocol."""
    model = copy.deepcopy(language_model.model)
    reference_model = copy.deepcopy(language_model.model).eval()
    tokenizer = language_model.tokenizer
    starts = itertools.cycle(range(0, len(plan), BATCH_SIZE))

    def loss():
        start = next(starts)
        batches = public_benchmark.tokenise(
            tokenizer, plan.iloc[start : start + BATCH_SIZE], questions
        )
        batches = send_to_device(batches, model.device)
        return public_benchmark.LOSSES[key](model, reference_model, batches)

    return stepper(model, loss)


def stepper(model, compute_loss):
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    model.train()

    def step():
        compute_loss().backward()
        optimiser.step()
        optimiser.zero_grad()

    return step
