"""Task vectors: what a training adds is subtracted, exactly."""

import copy
from contextlib import contextmanager

import pytest
import torch
from torch.nn import Linear, Module

from closer_look.models.adapters import with_adapter
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.training import LoraParameters
from closer_look.training import unlearning
from closer_look.training.task_vector import negated

LORA = LoraParameters(rank=2, alpha=4, dropout=0.0)  # adds alpha / rank = 2 times B A
OWN = {"task_vector_scale": 0.5}


class Adapted(Module):
    """A weight that adapters of rank 1 change by B A."""

    def __init__(self):
        super().__init__()
        self.lora_A, self.lora_B = Linear(2, 1, bias=False), Linear(1, 2, bias=False)
        with torch.no_grad():
            self.lora_A.weight.copy_(torch.tensor([[1.0, 2.0]]))
            self.lora_B.weight.zero_()

    def added(self):
        return (self.lora_B.weight @ self.lora_A.weight).tolist()


def change(weight, *values):
    """What a training does: it leaves alone what needs no gradient."""
    with torch.no_grad():
        if weight.requires_grad:
            weight.copy_(torch.tensor(values).reshape(weight.shape))


def test_weights_go_as_far_to_the_other_side():
    """From (1, 2) to (3, 1) is (2, -1); half of it from (1, 2) is (0, 2.5)."""
    model = Linear(2, 1, bias=False)
    change(model.weight, 1.0, 2.0)
    with negated(model, 0.5):
        change(model.weight, 3.0, 1.0)
    assert model.weight.tolist() == [[0, 2.5]]


def test_weights_that_are_not_trained_stay():
    model = Linear(1, 1)
    change(model.weight, 1.0)
    change(model.bias, 5.0)
    model.bias.requires_grad_(False)
    with negated(model, 1.0):
        change(model.weight, 3.0)
    assert (model.weight.item(), model.bias.item()) == (-1, 5)
    assert not model.bias.requires_grad


def test_what_adapters_add_is_negated_in_a_first_task_and_in_one_after_it():
    """First, B A becomes (1, 3) (2, 4) = [[2, 4], [6, 12]], and half of that is taken away:
    [[-1, -2], [-3, -6]], B being (-1/2, -3/2). Then B becomes (1/2, -3/2): A stays (2, 4), so
    [[1, 0], [0, 0]] (2, 4) is added, and half of it taken away: the first row of B A becomes
    (-1, -2) - (2, 4) / 2 = (-2, -4)."""
    model = Adapted()
    with negated(model, 0.5):
        change(model.lora_A.weight, 2.0, 4.0)
        change(model.lora_B.weight, 1.0, 3.0)
    assert model.added() == [[-1, -2], [-3, -6]]
    with negated(model, 0.5):
        change(model.lora_A.weight, 9.0, 9.0)
        change(model.lora_B.weight, 0.5, -1.5)
    assert model.added() == [[-2, -4], [-3, -6]]
    assert all(weight.requires_grad for weight in model.parameters())


# --- in a training ----------------------------------------------------------------------------


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 3), ("retain", 0, 3))


@pytest.fixture
def train(unlearn_first_task, questions, monkeypatch):
    """Train in place; the weights before, at the end of the training, and after it."""

    def train(language_model, **options):
        seen = []

        @contextmanager
        def noted(model, scale):
            with negated(model, scale):
                seen.append(effective(model))
                yield
                seen.append(effective(model))

        monkeypatch.setattr(unlearning, "negated", noted)
        model, _ = unlearn_first_task(
            language_model, questions, "gradient_descent", None, own=OWN, **options
        )
        return model, *seen, effective(model.model)

    return train


def effective(model):
    """Weights by their names, what adapters add being part of them."""
    merged = copy.deepcopy(model)
    merged = merged.merge_and_unload() if hasattr(merged, "merge_and_unload") else merged
    return {name: weight.detach().cpu() for name, weight in merged.named_parameters()}


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_each_task_of_a_chain_is_negated(train, language_model, lora):
    model = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
    for _ in range(2):
        model, before, trained, after = train(model, lora=lora)
        assert before.keys() == after.keys()
        for name, start in before.items():
            expected = start - 0.5 * (trained[name] - start)
            torch.testing.assert_close(after[name], expected, rtol=0, atol=1e-5)
        moved = max((trained[name] - start).abs().max() for name, start in before.items())
        assert moved > 1e-3


def test_the_second_task_trains_what_adapters_put_out_alone(train, language_model):
    model = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
    first, *_ = train(model, lora=LORA)
    before = {n: w.detach().clone() for n, w in first.model.named_parameters() if "lora_" in n}
    second, *_ = train(first, lora=LORA)
    after = {n: w for n, w in second.model.named_parameters() if "lora_" in n}
    assert len(after) == len(before) == 2 * 7
    for name, weight in after.items():
        assert torch.equal(weight, before[name]) == ("lora_A" in name)
        assert weight.requires_grad


def test_adapters_without_anything_added_are_trained_whole(language_model):
    model = copy.deepcopy(language_model.model)
    adapted = with_adapter(LanguageModel(model, language_model.tokenizer), LORA).model
    with negated(adapted, 1.0):
        assert all(w.requires_grad for n, w in adapted.named_parameters() if "lora_" in n)
