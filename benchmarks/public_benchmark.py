"""The protocol of the public benchmark (open-unlearning) for losses of other papers, plainly.

Rows are padded to the longest of a batch. The forget rows and the retain rows go through the model
one after the other, with the logits of all positions, and through a second model if a loss compares
with it. The retain loss is computed whatever its weight. Hidden states come from a full pass.
"""

from __future__ import annotations

import torch
from published import padded
from torch.nn.functional import cross_entropy, logsigmoid, mse_loss

LAYER = 7


def tokenise(tokenizer, plan, questions):
    """Tokenise both sides into token ids, attention mask and labels, (rows, longest)."""
    by_id = questions.set_index("row_id")
    sides = {side: by_id.loc[plan[f"{side}_row_id"]] for side in ("forget", "retain")}
    return {
        side: padded(tokenizer, list(rows["question"]), list(rows["answer"]))
        for side, rows in sides.items()
    }


def simnpo(model, reference_model, batches, beta=4.5, weight=0.125):
    """Compute SimNPO+GD."""
    batch = batches["forget"]
    z, labels = model(**batch).logits[:, :-1], batch["labels"][:, 1:]
    nll = cross_entropy(z.transpose(-1, -2), labels, reduction="none").sum(dim=-1)
    nll_per_token = nll / (batch["labels"] != -100).sum(dim=-1)
    forget = -2 / beta * logsigmoid(beta * nll_per_token).mean()
    return weight * forget + _retain(model, batches)


def undial(model, reference_model, batches, beta=10.0):
    """Compute UNDIAL; its retain loss has the weight 0."""
    batch = batches["forget"]
    z = model(**batch).logits[:, :-1]
    with torch.no_grad():
        z_ref = reference_model(**batch).logits[:, :-1]
    true = batch["labels"][:, 1:] % z.shape[-1]  # -100 counts from the end
    target = (z_ref - beta * torch.zeros_like(z_ref).scatter(-1, true[..., None], 1.0)).softmax(-1)
    forget = cross_entropy(z.flatten(0, 1), target.flatten(0, 1))
    return forget + 0.0 * _retain(model, batches)


def rmu(model, reference_model, batches, length=2.0):
    """Compute RMU on the output of a layer."""
    forget = _states(model, batches["forget"])
    direction = torch.rand(forget.shape[-1], generator=torch.Generator().manual_seed(1))
    target = (direction / direction.norm() * length).expand_as(forget)
    with torch.no_grad():
        reference = _states(reference_model, batches["retain"])
    retain = _states(model, batches["retain"])
    return _distance(forget, target, batches["forget"]) + _distance(
        retain, reference, batches["retain"]
    )


LOSSES = {"simnpo_gd": simnpo, "undial": undial, "rmu": rmu}


def _retain(model, batches):
    return model(**batches["retain"]).loss


def _states(model, batch):
    seen = []
    handle = model.model.layers[min(LAYER, len(model.model.layers) - 1)].register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    model(**batch)
    handle.remove()
    return seen[0]


def _distance(states, target, batch):
    mask = batch["labels"] != -100
    squares = mse_loss(states, target, reduction="none")
    sums = (squares * mask[..., None]).mean(dim=2).sum(dim=1)
    return (sums / mask.sum(dim=-1)).mean()
