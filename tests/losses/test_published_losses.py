"""Equal to the losses published with arXiv 2410.08109, in float64."""

import pytest
import torch

from closer_look.losses import (
    answer_preservation,
    dpo,
    gradient_ascent,
    gradient_descent,
    idk,
    kl,
    llmu,
    maximum_entropy,
    npo,
    sequence_nll,
)


def aligned(batch, logits="logits", labels="labels"):
    """Shift: position t of the published tensors predicts label t + 1."""
    return (
        torch.tensor(batch[logits], dtype=torch.float64)[:, :-1],
        torch.tensor(batch[labels])[:, 1:],
    )


@pytest.fixture(params=[0, 1], ids=["small_logits", "large_logits"])
def case(golden_cases, request):
    return golden_cases[request.param]


@pytest.fixture
def values(case):
    batches, beta = case["batches"], case["beta"]
    forget, forget_idk = aligned(batches["forget"]), aligned(batches["forget_idk"])
    retain, retain_idk = aligned(batches["retain"]), aligned(batches["retain_idk"])
    reference_nll = sequence_nll(*aligned(batches["forget"], "reference_logits"))
    reference_idk_nll = sequence_nll(*aligned(batches["forget_idk"], "reference_logits"))
    everything = torch.tensor(case["forget_labels_with_question"])[:, 1:]
    unshifted = [
        torch.tensor(batches["retain"][name], dtype=torch.float64)
        for name in ("logits", "reference_logits")
    ]
    return {
        "sequence_nll.forget": sequence_nll(*forget),
        "GA": gradient_ascent(*forget),
        "NPO": npo(*forget, reference_nll, beta),
        "DPO": dpo(*forget, *forget_idk, reference_nll, reference_idk_nll, beta),
        "IDK": idk(*forget_idk),
        "ME": maximum_entropy(*forget),
        "ME.question_and_answer": maximum_entropy(forget[0], everything),
        "GD": gradient_descent(*retain),
        "KL": kl(*unshifted),
        "AP": answer_preservation(*retain, *retain_idk, beta),
        "LLMU.mismatch": llmu(*forget, *aligned(batches["mismatch"])) - gradient_ascent(*forget),
    }


def test_every_published_value(case, values):
    assert values.keys() == case["expected"].keys()
    for name, value in values.items():
        expected = pytest.approx(case["expected"][name], abs=1e-9, rel=0)
        assert value.tolist() == expected, name
