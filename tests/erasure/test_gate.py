"""The gate lets a model pass, or says why not."""

import pytest

from closer_look.erasure.gate import bounds, rejections
from closer_look.parameters.erasure import ErasureParameters


def numbers(**values):
    return {name: None if value is None else {"value": value} for name, value in values.items()}


def gate(**parameters):
    given = {"method": "me_gd", "min_forget_efficacy": 0.6, "max_utility_loss": 0.05}
    return ErasureParameters.model_validate(given | parameters)


BEFORE = numbers(model_utility=0.9, forget_efficacy=0.1)
ATTACKED = {"max_residual_knowledge": 0.2, "attacks": "paraphrase"}


@pytest.mark.parametrize(
    ("after", "parameters", "reasons"),
    [
        ({"model_utility": 0.85, "forget_efficacy": 0.6}, {}, []),
        ({"model_utility": 0.95, "forget_efficacy": 0.59}, {}, ["forget efficacy 0.590 is below"]),
        ({"model_utility": 0.84, "forget_efficacy": 0.5}, {}, ["forget eff", "model utility fell"]),
        ({"model_utility": None, "forget_efficacy": None}, {}, ["forget eff", "model utility cou"]),
        ({"model_utility": 0.9, "forget_efficacy": 1, "residual_knowledge": 0.2}, ATTACKED, []),
        (
            {"model_utility": 0.9, "forget_efficacy": 1, "residual_knowledge": 0.3},
            ATTACKED,
            ["attacks got back 0.300 of what was known: more than erasure.max_residual_knowledge"],
        ),
        ({"model_utility": 0.9, "forget_efficacy": 1}, ATTACKED, ["residual knowledge could not"]),
    ],
)
def test_each_bound_that_is_broken_is_a_sentence(after, parameters, reasons):
    found = rejections(BEFORE, numbers(**after), gate(**parameters))
    assert len(found) == len(reasons)
    assert all(one.startswith(reason) for one, reason in zip(found, reasons, strict=True)), found


def test_bounds_that_are_not_set_are_not_in_the_ledger():
    assert bounds(gate()) == {"min_forget_efficacy": 0.6, "max_utility_loss": 0.05}
    assert bounds(gate(**ATTACKED))["max_residual_knowledge"] == 0.2


def test_residual_knowledge_needs_attacks():
    with pytest.raises(ValueError, match="max_residual_knowledge and attacks: give both"):
        gate(max_residual_knowledge=0.2)
