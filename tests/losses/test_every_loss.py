"""What every loss in FORGET and RETAIN must hold, called by its parameter names."""

import inspect
from functools import partial

import pytest
import torch
from torch.nn.functional import pad

from closer_look.losses import FORGET, RETAIN, TENSORS, ce_u, flat, maximum_entropy

RECORDS = [*FORGET.items(), *RETAIN.items()]
LOSSES = {
    # RMU has one on each side.
    **{f"forget-{name}": loss.function for name, loss in FORGET.items()},
    **{f"retain-{name}": loss.function for name, loss in RETAIN.items()},
    "entropy": partial(maximum_entropy, direction="model_to_uniform"),
    "ce_u-all": partial(ce_u, ignore_first=0),
    "flat-kl": partial(flat, divergence="kl"),
    "flat-jensen_shannon": partial(flat, divergence="jensen_shannon"),
    "flat-pearson": partial(flat, divergence="pearson"),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
# Their weight or target is a constant made of the logits: tests of each check the gradient.
HAVE_A_CONSTANT = ("forget-wga", "forget-satimp", "forget-ce_u", "ce_u-all")
# What the model computes, and the labels that say where.
LABELS_OF = {
    "logits": "labels",
    "idk_logits": "idk_labels",
    "mismatch_logits": "mismatch_labels",
    "alternate_logits": "alternate_labels",
    "activations": "labels",
}
LABELS = sorted(set(LABELS_OF.values()))


def test_records_are_complete():
    for name, loss in RECORDS:
        assert name == loss.function.__name__
        assert loss.label and loss.sentence
        assert inspect.getdoc(loss.function)
    assert FORGET.keys() & RETAIN.keys() == {"rmu", "gradient_descent"}
    # The latter teaches on either side; a task vector subtracts what it has taught.
    assert len({loss.function for _, loss in RECORDS}) == len(RECORDS) - 1


@every_loss
def test_parameters_are_known_tensors_or_have_a_default(loss, batch):
    parameters = inspect.signature(loss).parameters.values()
    assert set(batch) == set(TENSORS)
    hyperparameters = [one for one in parameters if one.name not in TENSORS]
    assert all(one.default is not inspect.Parameter.empty for one in hyperparameters)


@every_loss
def test_value_is_a_scalar_in_the_precision_of_float64_logits(loss, batch, call):
    value = call(loss, batch)
    assert value.shape == ()
    assert value.dtype == torch.float64


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(loss, batch, call, dtype):
    half = {name: t.float() if t.is_floating_point() else t for name, t in batch.items()}
    computed = [name for name in batch if name.endswith(("logits", "activations"))]
    half |= {name: batch[name].to(dtype) for name in computed}
    single = {name: t.float() if t.is_floating_point() else t for name, t in half.items()}
    assert call(loss, half).dtype == torch.float32
    assert call(loss, half) == call(loss, single)


@pytest.mark.parametrize(
    "loss", [pytest.param(loss, id=k) for k, loss in LOSSES.items() if k not in HAVE_A_CONSTANT]
)
def test_gradient_is_that_of_the_value(loss, batch, call):
    def value(*computed):
        return call(loss, batch | dict(zip(LABELS_OF, computed, strict=True)))

    inputs = [batch[name].requires_grad_() for name in LABELS_OF]
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


@every_loss
def test_positions_without_a_label_have_no_gradient(loss, batch, call):
    for name in LABELS_OF:
        batch[name].requires_grad_()
    call(loss, batch).backward()
    gradients = [(batch[name].grad, batch[labels]) for name, labels in LABELS_OF.items()]
    gradients = [(gradient, labels) for gradient, labels in gradients if gradient is not None]
    assert gradients
    for gradient, labels in gradients:
        answered = labels != -100
        assert not gradient[~answered].any()
        if loss is ce_u:  # leaves out the first token of each row
            answered &= answered.cumsum(dim=-1) > 1
        assert gradient[answered].any(dim=-1).all()


def test_what_is_compared_with_has_no_gradient(batch, call):
    fixed = {"reference_logits", "reference_activations", "control_vector"}
    for name in fixed:
        batch[name].requires_grad_()
    for loss in LOSSES.values():
        assert not call(loss, batch).requires_grad


@every_loss
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_whatever_stands_in_it(loss, batch, call, side):
    def padded(name, tensor):
        width = (3, 0) if side == "left" else (0, 3)
        if name.endswith("labels"):
            return pad(tensor, width, value=-100)
        return pad(tensor, (0, 0, *width), value=torch.nan) if tensor.dim() == 3 else tensor

    longer = {name: padded(name, tensor) for name, tensor in batch.items()}
    assert torch.equal(call(loss, longer), call(loss, batch))
    for name in LABELS_OF:
        longer[name].requires_grad_()
    call(loss, longer).backward()
    gradients = [longer[name].grad for name in LABELS_OF if longer[name].grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_loss
def test_logits_of_the_labels_alone_are_enough(loss, batch, call):
    labels_of = LABELS_OF | {"reference_logits": "labels", "reference_activations": "labels"}
    alone = batch | {name: batch[name][batch[of] != -100] for name, of in labels_of.items()}
    assert call(loss, alone) == call(loss, batch)


@every_loss
@pytest.mark.parametrize("n_rows", [3, 0])
def test_batch_without_a_label_is_zero_with_a_zero_gradient(loss, batch, call, n_rows):
    empty = {name: tensor[:n_rows] for name, tensor in batch.items() if name != "control_vector"}
    empty["control_vector"] = batch["control_vector"]
    for name in LABELS:
        empty[name] = torch.full_like(empty[name], -100)
    for name in LABELS_OF:
        empty[name] = empty[name].clone().requires_grad_()
    value = call(loss, empty)
    value.backward()
    assert value == 0
    gradients = [empty[name].grad for name in LABELS_OF if empty[name].grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


@every_loss
def test_order_of_rows_does_not_matter(loss, batch, call):
    backwards = {name: tensor.flip(0) for name, tensor in batch.items()}
    backwards["control_vector"] = batch["control_vector"]  # of no row
    assert call(loss, backwards).item() == pytest.approx(call(loss, batch).item())
