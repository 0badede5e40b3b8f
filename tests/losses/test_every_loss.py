"""What every loss in FORGET and RETAIN must hold, called by its parameter names."""

import inspect
from functools import partial

import pytest
import torch
from torch.nn.functional import pad

from closer_look.losses import FORGET, RETAIN, TENSORS
from closer_look.losses.forget import maximum_entropy

LOSSES = {
    **{name: loss.function for name, loss in {**FORGET, **RETAIN}.items()},
    "entropy": partial(maximum_entropy, direction="model_to_uniform"),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
LOGITS = ["logits", "idk_logits", "mismatch_logits"]
LABELS = ["labels", "idk_labels", "mismatch_labels"]


def test_records_are_complete():
    for name, loss in {**FORGET, **RETAIN}.items():
        assert name == loss.function.__name__
        assert loss.label and loss.sentence
        assert inspect.getdoc(loss.function)
    assert not FORGET.keys() & RETAIN.keys()


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
    half = {name: t.to(dtype) if name.endswith("logits") else t for name, t in batch.items()}
    half |= {name: batch[name].float() for name in ("reference_nll", "reference_idk_nll")}
    single = {name: t.float() if t.is_floating_point() else t for name, t in half.items()}
    assert call(loss, half).dtype == torch.float32
    assert call(loss, half) == call(loss, single)


@every_loss
def test_gradient_is_that_of_the_value(loss, batch, call):
    def value(*logits):
        return call(loss, batch | dict(zip(LOGITS, logits, strict=True)))

    inputs = [batch[name].requires_grad_() for name in LOGITS]
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


@every_loss
def test_positions_without_a_label_have_no_gradient(loss, batch, call):
    for name in LOGITS:
        batch[name].requires_grad_()
    call(loss, batch).backward()
    gradients = [
        (batch[logits].grad, batch[labels]) for logits, labels in zip(LOGITS, LABELS, strict=True)
    ]
    gradients = [(gradient, labels) for gradient, labels in gradients if gradient is not None]
    assert gradients
    for gradient, labels in gradients:
        assert not gradient[labels == -100].any()
        assert gradient[labels != -100].any(dim=-1).all()


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
    for name in LOGITS:
        longer[name].requires_grad_()
    call(loss, longer).backward()
    gradients = [longer[name].grad for name in LOGITS if longer[name].grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_loss
def test_logits_of_the_labels_alone_are_enough(loss, batch, call):
    labels_of = dict(zip(LOGITS, LABELS, strict=True)) | {"reference_logits": "labels"}
    alone = batch | {name: batch[name][batch[of] != -100] for name, of in labels_of.items()}
    assert call(loss, alone) == call(loss, batch)


@every_loss
@pytest.mark.parametrize("n_rows", [3, 0])
def test_batch_without_a_label_is_zero_with_a_zero_gradient(loss, batch, call, n_rows):
    empty = {name: tensor[:n_rows] for name, tensor in batch.items()}
    for name in LABELS:
        empty[name] = torch.full_like(empty[name], -100)
    for name in LOGITS:
        empty[name] = empty[name].clone().requires_grad_()
    value = call(loss, empty)
    value.backward()
    assert value == 0
    gradients = [empty[name].grad for name in LOGITS if empty[name].grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


@every_loss
def test_order_of_rows_does_not_matter(loss, batch, call):
    backwards = {name: tensor.flip(0) for name, tensor in batch.items()}
    assert call(loss, backwards).item() == pytest.approx(call(loss, batch).item())
