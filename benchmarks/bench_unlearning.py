"""Time of unlearning steps here, against published protocols on the same rows."""

import pytest
from setups import load_method
from steps import step_here, step_of_public_benchmark, step_published

OF_OTHER_PAPERS = ("simnpo_gd", "undial", "rmu")
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


@pytest.mark.parametrize("key", OF_OTHER_PAPERS)
def test_step_of_other_papers(benchmark, side_by_side, language_model, questions, plan, key):
    method = load_method(key)
    benchmark.name = method.label
    other = step_of_public_benchmark(language_model, plan, questions, key)
    with step_here(language_model, plan, questions, method) as here:
        side_by_side("step of 4 rows, public benchmark", here, other)
    assert all(weight.isfinite().all() for weight in language_model.model.parameters())
