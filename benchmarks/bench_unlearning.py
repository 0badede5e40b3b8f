"""A step of unlearning here, against the published protocol on the same rows and model."""

import copy
from pathlib import Path

import published
import pytest
import torch
import yaml

from closer_look.objective import Objective
from closer_look.packing import answer_logits, rows_kept_apart
from closer_look.parameters import MethodParameters
from closer_look.reference import reference_scores

METHODS = ("ga_gd", "me_gd", "npo_gd", "npo_kl", "dpo_gd", "idk_ap")
BATCH_SIZE = 4
FOLDER = Path(__file__).parents[1] / "conf" / "base" / "parameters_methods"


def stepper(model, compute_loss):
    """Return a function that makes a step of AdamW, each time on the same batch."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model.train()

    def step():
        compute_loss().backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


@pytest.mark.parametrize("method", METHODS)
def test_step(benchmark, side_by_side, language_model, questions, plan, method, request):
    values = yaml.safe_load((FOLDER / f"{method}.yml").read_text())["methods"][method]
    method = MethodParameters(**values)
    batch_plan = plan.head(BATCH_SIZE)
    benchmark.group = f"step, {request.node.callspec.params['language_model']}"
    benchmark.name = method.label

    reference = reference_scores(language_model, batch_plan, questions, method, BATCH_SIZE)
    other_model = copy.deepcopy(language_model.model)
    reference_model = copy.deepcopy(language_model.model).eval()

    def here():
        objective = Objective(method)
        rows = objective.encode(language_model.tokenizer, batch_plan, questions, reference)
        batch = objective.collate(rows)
        logits = answer_logits(language_model.model, batch)
        return objective.loss(logits, batch, reference.output_head)["loss"]

    def other():
        variants = published.tokenise(language_model, batch_plan, questions)
        return published.loss(other_model, reference_model, variants, method)

    with rows_kept_apart(language_model.model):
        side_by_side(stepper(language_model.model, here), stepper(other_model, other))
    assert all(weight.isfinite().all() for weight in language_model.model.parameters())
