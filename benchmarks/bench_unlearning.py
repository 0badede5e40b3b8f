"""Time of unlearning steps here, against the published protocol on the same rows."""

import pytest
from setups import load_method
from steps import step_here, step_published

METHODS = ("ga_gd", "me_gd", "npo_gd", "npo_kl", "dpo_gd", "idk_ap")


@pytest.mark.parametrize("method", METHODS)
def test_step(benchmark, side_by_side, language_model, questions, plan, method):
    method = load_method(method)
    benchmark.name = method.label
    arguments = (language_model, plan, questions, method)
    other = step_published(*arguments)
    with step_here(*arguments) as here:
        side_by_side("step of 4 rows", here, other)
    assert all(weight.isfinite().all() for weight in language_model.model.parameters())
