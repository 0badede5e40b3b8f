"""Equal to the losses of the methods beyond arXiv 2410.08109, as published, in float64."""

import pytest
import torch

from closer_look.losses import altpo, ce_u, flat_logits, satimp, sequence_nll, simnpo, undial, wga
from closer_look.losses.forget import rmu as forget_rmu
from closer_look.losses.retain import rmu as retain_rmu


@pytest.fixture(params=[0, 1], ids=["small_logits", "large_logits"])
def case(golden_cases_beyond, request):
    return golden_cases_beyond[request.param]


@pytest.fixture
def values(case):
    def tensor(name):
        return torch.tensor(case[name], dtype=torch.float64)

    def labels(name="labels"):
        return torch.tensor(case[name])

    # Shift: position t of the published tensors predicts label t + 1.
    forget = (tensor("logits")[:, :-1], labels()[:, 1:])
    alternate = (tensor("alternate_logits")[:, :-1], labels("alternate_labels")[:, 1:])
    everywhere = (tensor("logits")[:, :-1], labels("labels_at_every_position")[:, 1:])
    reference = tensor("reference_logits")[:, :-1]
    reference_nll = sequence_nll(reference, forget[1])
    reference_alternate_nll = sequence_nll(
        tensor("alternate_reference_logits")[:, :-1], alternate[1]
    )
    states, reference_states = tensor("activations"), tensor("reference_activations")
    own_count = "(each row by its own count)"
    return {
        "SimNPO beta=4.5 delta=0.0": simnpo(*forget),
        "SimNPO beta=2.5 delta=0.5": simnpo(*forget, beta=2.5, delta=0.5),
        "UNDIAL beta=10.0": undial(*everywhere, reference),
        "UNDIAL beta=2.0": undial(*everywhere, reference, beta=2.0),
        "WGA beta=1.0": wga(*forget),
        "WGA beta=0.1": wga(*forget, beta=0.1),
        "SatImp beta1=5.0 beta2=1.0": satimp(*forget),
        "SatImp beta1=1.0 beta2=0.5": satimp(*forget, beta1=1.0, beta2=0.5),
        "CE-U ignore_first=0": ce_u(*forget, ignore_first=0),
        "CE-U ignore_first=1": ce_u(*forget),
        "PDU forget (unshifted positions, as published)": flat_logits(tensor("logits"), labels()),
        "AltPO (DPO towards an alternate answer) beta=0.1": altpo(
            *forget, *alternate, reference_nll, reference_alternate_nll
        ),
        f"RMU forget {own_count}": forget_rmu(states, tensor("control_vector"), labels()),
        f"RMU retain {own_count}": retain_rmu(states, reference_states, labels()),
    }


def test_every_published_value(case, values):
    # As published, RMU divides each row's sum by every row's count: not what the paper says.
    assert case["expected"].keys() - values.keys() == {"RMU forget", "RMU retain"}
    for name, value in values.items():
        expected = pytest.approx(case["expected"][name], abs=1e-9, rel=0)
        assert value.tolist() == expected, name
