"""Distance of a training step from its lower limit, the time of its matrix products alone."""

from collections import Counter
from functools import partial
from statistics import median

import pytest
import torch
from setups import load_method, seconds
from steps import step_here
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)


class RecordProducts(TorchDispatchMode):
    """Counts the shapes of the matrix products in the ``with`` block."""

    def __init__(self):
        super().__init__()
        self.shapes = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in PRODUCTS:
            self.shapes[tuple(tuple(one.shape) for one in args[-2:])] += 1
        return function(*args, **(kwargs or {}))


def seconds_of_products(shapes):
    """Time plain fp32 products of these shapes, and sum up the medians."""
    total = 0
    for pair, n in shapes.items():
        left, right = (torch.randn(shape) for shape in pair)
        product = partial(torch.matmul, left, right)
        product()
        total += n * median(seconds(product) for _ in range(5))
    return total


@pytest.mark.parametrize("method", ["ga_gd", "dpo_gd", "idk_ap"])
def test_distance_to_the_products_alone(measured, language_model, questions, plan, method, request):
    """Time steps and products in turn, on the same batch."""
    model = request.node.callspec.params["language_model"]
    method = load_method(method)
    with step_here(language_model, plan.head(4), questions, method) as step:
        step()
        with RecordProducts() as record:
            step()
        steps, products = [], []
        for _ in range(5):
            steps.append(seconds(step))
            products.append(seconds_of_products(record.shapes))
    share = median(products) / median(steps)
    measured(f"products alone, of a step, {model}", method.label, "%", value=100 * share)
    assert share < 1.1
