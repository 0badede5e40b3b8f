"""How losses become a gradient: numbers whose working stands in the test."""

import math

import numpy as np
import pytest
import torch
from torch.nn import Parameter

from closer_look.parameters.methods import MethodParameters, PrimalDualParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.training.combination import Combination, PrimalDual, project_conflicts

SETTINGS = UnlearningParameters(learning_rate=1, epochs=2, batch_size=4, seed=1)
LOSSES = {"forget": {"loss": "gradient_ascent"}, "retain": {"loss": "gradient_descent"}}
SURGERY = {"combination": {"kind": "gradient_surgery"}}
DUAL = {"combination": {"kind": "primal_dual", "retain_bound": 0.5, "step_size": 2.0}}


def method(**values):
    return MethodParameters.model_validate({"label": "X"} | LOSSES | values)


def gradient(combination, parameters, *micro_batches):
    """Of a step whose micro-batches have a (forget loss, retain loss) each."""
    combination.start_step()
    for one in parameters:
        one.grad = None
    share = 1 / len(micro_batches)
    for forget, retain in micro_batches:
        losses = {"forget_loss": forget, "retain_loss": retain}
        combination.total(
            {name: one * share for name, one in losses.items()}, parameters
        ).backward()
    logged = combination.end_step({"retain_loss": sum(r for _, r in micro_batches) * share})
    return [one.grad.tolist() for one in parameters], logged


@pytest.fixture
def parameters():
    return [Parameter(torch.tensor([1.0, 2.0])), Parameter(torch.tensor([3.0]))]


def linear(parameters, first, second):
    """A loss with a gradient of one's choice."""
    return (parameters[0] * torch.tensor(first)).sum() + parameters[1].sum() * second


def test_a_weighted_sum(parameters):
    weighted = method(
        forget=LOSSES["forget"] | {"weight": 0.5}, retain=LOSSES["retain"] | {"weight": 3}
    )
    combination = Combination.of(weighted, SETTINGS, rows_per_epoch=4)
    forget, retain = linear(parameters, [2.0, 4.0], -2.0), linear(parameters, [1.0, 0.0], 1.0)
    found, logged = gradient(combination, parameters, (forget, retain))
    assert found == [[0.5 * 2 + 3 * 1, 0.5 * 4], [0.5 * -2 + 3 * 1]]
    assert logged == {}


def test_a_method_with_one_loss(parameters):
    alone = MethodParameters(label="X", forget={"loss": "ce_u", "weight": 2.0})
    combination = Combination.of(alone, SETTINGS, rows_per_epoch=4)
    loss = linear(parameters, [2.0, 4.0], -2.0)
    assert combination.total({"forget_loss": loss}, parameters).item() == 2 * loss.item()


def test_surgery_takes_away_what_conflicts(parameters):
    """f = (2, 4, -6), r = (1, -2, 2): f.r = 2 - 8 - 12 = -18 and r.r = 9, so that
    f + 2 r = (4, 0, -2), which is at right angles with r, and with r (5, -2, 0)."""
    combination = Combination.of(method(**SURGERY), SETTINGS, rows_per_epoch=4)
    forget, retain = linear(parameters, [2.0, 4.0], -6.0), linear(parameters, [1.0, -2.0], 2.0)
    found, logged = gradient(combination, parameters, (forget, retain))
    assert found == [[5, -2], [0]]
    assert logged == {}


def test_surgery_is_over_all_parameters_and_not_each(parameters):
    """On the first alone, f.r = -2 would conflict; on both, f.r = -2 + 6 = 4."""
    combination = Combination.of(method(**SURGERY), SETTINGS, rows_per_epoch=4)
    forget, retain = linear(parameters, [2.0, 0.0], 3.0), linear(parameters, [-1.0, 5.0], 2.0)
    found, _ = gradient(combination, parameters, (forget, retain))
    assert found == [[1, 5], [5]]


def test_without_a_conflict_surgery_is_the_weighted_sum_however_long_the_gradients(parameters):
    """Only their sum is clipped, by the Trainer, or one of them would weigh less."""
    settings = SETTINGS.model_copy(update={"max_grad_norm": 1e-3})
    weights = {"retain": LOSSES["retain"] | {"weight": 2}}
    for values in (SURGERY, {}):
        combination = Combination.of(method(**weights, **values), settings, rows_per_epoch=4)
        losses = linear(parameters, [2.0, 4.0], 6.0), linear(parameters, [1.0, 2.0], 2.0)
        assert gradient(combination, parameters, losses)[0] == [[4, 8], [10]]


def test_surgery_with_weights(parameters):
    """The retain gradient is 1/2 r = (1/2, -1, 1): f.r = -9, r.r = 9/4, f + 4 (1/2 r) = f + 2 r as
    above, and with 1/2 r (4.5, -1, -1)."""
    halved = method(**SURGERY, retain=LOSSES["retain"] | {"weight": 0.5})
    combination = Combination.of(halved, SETTINGS, rows_per_epoch=4)
    forget, retain = linear(parameters, [2.0, 4.0], -6.0), linear(parameters, [1.0, -2.0], 2.0)
    found, _ = gradient(combination, parameters, (forget, retain))
    assert found == [[4.5, -1], [-1]]


def test_surgery_on_gradients_of_parts(parameters):
    """The forget loss reaches the first parameter alone, the retain loss the second."""
    combination = Combination.of(method(**SURGERY), SETTINGS, rows_per_epoch=4)
    forget, retain = parameters[0].sum(), -2 * parameters[1].sum()
    assert gradient(combination, parameters, (forget, retain))[0] == [[1, 1], [-2]]


def test_surgery_without_a_retain_gradient_leaves_the_other():
    parameter = Parameter(torch.tensor([1.0]))
    parameter.grad = torch.tensor([3.0])
    project_conflicts({parameter: torch.zeros(1)})
    assert parameter.grad.item() == 3


def test_total_of_losses_whose_gradients_are_merged_is_their_sum(parameters):
    weighted = method(**SURGERY, retain=LOSSES["retain"] | {"weight": 0.5})
    combination = Combination.of(weighted, SETTINGS, rows_per_epoch=4)
    losses = {"forget_loss": parameters[0].sum(), "retain_loss": parameters[1].sum()}
    assert combination.total(losses, parameters).item() == 3 + 0.5 * 3


@pytest.mark.parametrize("values", [SURGERY, DUAL, {"optimiser": "dual_optim"}])
def test_micro_batches_make_the_step_of_the_whole_batch(parameters, values):
    weighted = method(**values, retain=LOSSES["retain"] | {"weight": 0.5})
    settings = SETTINGS.model_copy(update={"optimiser": values.get("optimiser", "adamw")})

    def step(*micro_batches):
        combination = Combination.of(weighted, settings, rows_per_epoch=4)
        found = gradient(combination, parameters, *(f() for f in micro_batches))
        apart = [one.__dict__.pop("gradient_of_retain", None) for one in parameters]
        return found, apart, combination.dual and combination.dual.weight

    def losses(forget, retain):
        return lambda: (linear(parameters, *forget), linear(parameters, *retain))

    whole = step(losses(([2.0, 4.0], -6.0), ([1.0, -2.0], 2.0)))
    parts = step(
        losses(([4.0, 0.0], -8.0), ([0.0, -2.0], 6.0)),
        losses(([0.0, 8.0], -4.0), ([2.0, -2.0], -2.0)),
    )
    assert str(parts) == str(whole)


def test_attempt_that_ran_out_of_memory_leaves_nothing_behind(parameters):
    combination = Combination.of(method(**SURGERY), SETTINGS, rows_per_epoch=4)

    forget, retain = linear(parameters, [2.0, 4.0], -6.0), linear(parameters, [1.0, -2.0], 2.0)
    combination.total({"forget_loss": forget, "retain_loss": retain}, parameters)
    assert gradient(combination, parameters, (forget, retain))[0] == [[5, -2], [0]]


def test_frozen_parameters_get_no_gradient(parameters):
    parameters[1].requires_grad_(False)
    combination = Combination.of(method(**SURGERY), SETTINGS, rows_per_epoch=4)
    losses = {"forget_loss": parameters[0].sum(), "retain_loss": parameters[0][1] * 1.0}
    combination.start_step()
    combination.total(losses, parameters).backward()
    combination.end_step({})
    assert parameters[0].grad.tolist() == [1, 2]
    assert parameters[1].grad is None


# --- a weight that learns ---------------------------------------------------------------------


def dual(weight=1.0, steps_per_epoch=2, **values):
    values = {"kind": "primal_dual", "retain_bound": 0.5, "step_size": 2.0} | values
    return PrimalDual(PrimalDualParameters(**values), weight, steps_per_epoch)


def weights_after(one, *retain_losses):
    found = []
    for loss in retain_losses:
        one.update(loss)
        found.append(one.weight)
    return found


def test_weight_grows_above_the_bound_and_falls_below_it():
    """1 + 2 (1.5 - 0.5) = 3, 3 + 2 (0.5 - 0.5) = 3, 3 + 2 (0.25 - 0.5) = 2.5."""
    assert weights_after(dual(), 1.5, 0.5, 0.25) == [3, 3, 2.5]


def test_weight_is_never_below_zero():
    """1 + 2 (0 - 0.5) = 0; then -1, cut to 0, from where it grows by 2 (1 - 0.5) = 1."""
    assert weights_after(dual(), 0, 0, 1) == [0, 0, 1]


@pytest.mark.parametrize(("warmup", "n_steps"), [(0, 0), (1, 2), (1.2, 3), (2, 4)])
def test_weight_stays_during_the_warm_up(warmup, n_steps):
    found = weights_after(dual(warmup_epochs=warmup), *[1.0] * 5)
    assert found == [1] * n_steps + [2 + n for n in range(5 - n_steps)]


def test_a_step_has_the_weight_before_it(parameters):
    """1, then 1 + 2 (3 - 0.5) = 6."""
    combination = Combination.of(method(**DUAL), SETTINGS, rows_per_epoch=4)
    for weight in (1.0, 6.0):
        forget, retain = parameters[0].sum(), parameters[1].sum()  # the latter is 3
        found, logged = gradient(combination, parameters, (forget, retain))
        assert found == [[1, 1], [weight]]
        assert logged == {"retain_weight": weight}


def test_warm_up_is_counted_in_steps_of_the_batch_size():
    own = DUAL["combination"] | {"warmup_epochs": 1.5}
    combination = Combination.of(method(combination=own), SETTINGS, rows_per_epoch=10)
    assert combination.dual.warmup_steps == math.ceil(1.5 * 10 / 4)


def test_the_first_weight_is_that_of_the_retain_loss():
    weighted = method(**DUAL, retain=LOSSES["retain"] | {"weight": 7})
    assert Combination.of(weighted, SETTINGS, rows_per_epoch=4).dual.weight == 7


def test_state_is_that_of_the_weight_in_full_precision(tmp_path):
    saved = Combination({}, dual=dual())
    weights_after(saved.dual, 1.1, 0.7)
    saved.save(tmp_path)
    loaded = Combination({}, dual=dual())
    loaded.load(tmp_path)
    assert (loaded.dual.weight, loaded.dual.step) == (saved.dual.weight, 2)
    assert loaded.dual.weight not in (1, float(np.float32(saved.dual.weight)))


def test_what_has_no_state_writes_none(tmp_path):
    Combination({}).save(tmp_path)
    Combination({}).load(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- in a training ----------------------------------------------------------------------------


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 4), ("retain", 0, 4))


def test_weight_of_each_step_is_logged(unlearn, questions):
    own = {"combination": DUAL["combination"] | {"warmup_epochs": 1}}
    _, log = unlearn(questions, "flat_logits", "gradient_descent", own=own)
    weights, retain = log["retain_weight"].to_numpy(), log["retain_loss"].to_numpy()
    assert list(weights[:3]) == [1, 1, 1]  # two steps of warm-up, and each is updated after it
    np.testing.assert_allclose(np.diff(weights)[2:], 2 * (retain[2:-1] - 0.5), rtol=1e-4)
    total = log["forget_loss"] + weights * retain
    np.testing.assert_allclose(log["loss"], total, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("own", [SURGERY, {"optimiser": "dual_optim"}], ids=["surgery", "dual"])
def test_merged_gradients_train_alike_with_micro_batches(unlearn, questions, own, checkpointing):
    def train(**options):
        options |= {"batch_size": 4, "is_double": True}
        log = unlearn(questions, "npo", "kl", own=own, **options)[1]
        return log.drop(columns="micro_batch_size").astype(float)

    whole = train()
    parts = train(micro_batch_size=2, gradient_checkpointing=checkpointing)
    assert len(whole) == 3
    assert whole["gradient_norm"].iloc[1] > 0
    np.testing.assert_allclose(parts, whole, rtol=2e-3, atol=1e-4)
