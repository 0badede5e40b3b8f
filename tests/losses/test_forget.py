"""Losses that forget, with numbers worked out by hand (beta = 1 unless said otherwise)."""

from math import log

import pytest
import torch

from closer_look.losses.forget import (
    altpo,
    dpo,
    gradient_ascent,
    idk,
    llmu,
    maximum_entropy,
    npo,
    rmu,
    satimp,
    simnpo,
    wga,
)

CONFIDENT = torch.tensor([[[40.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
ONE_LABEL = torch.tensor([[0]])


def test_gradient_ascent_is_minus_the_cross_entropy(halves):
    # nll: log 2, log 4, log 4 over three tokens.
    assert gradient_ascent(*halves).item() == pytest.approx(-5 / 3 * log(2))


def test_wga_weighs_each_token_by_its_probability(halves):
    # p = 1/2, 1/4, 1/4: -(1/2 log 2 + 1/4 log 4 + 1/4 log 4) / 3.
    assert wga(*halves).item() == pytest.approx(-log(2) / 2)


def test_wga_raises_the_probability_to_beta(halves):
    # p ** 2 = 1/4, 1/16, 1/16: -(1/4 log 2 + 2/16 log 4) / 3.
    assert wga(*halves, beta=2.0).item() == pytest.approx(-log(2) / 6)
    assert wga(*halves, beta=0.0).item() == pytest.approx(gradient_ascent(*halves).item())


def test_satimp(halves):
    # p ** 2 (1 - p) = 1/8 for p = 1/2 and 3/64 for p = 1/4: -(1/8 log 2 + 2 * 3/64 log 4) / 3.
    loss = satimp(*halves, beta1=2.0, beta2=1.0)
    assert loss.item() == pytest.approx(-5 / 48 * log(2))


def test_satimp_without_its_exponents_is_gradient_ascent(halves):
    loss = satimp(*halves, beta1=0.0, beta2=0.0)
    assert loss.item() == pytest.approx(gradient_ascent(*halves).item())


def test_satimp_leaves_certain_tokens_and_tokens_that_are_gone_alone():
    for label in (0, 1):  # p = 1 and e^-40
        logits = CONFIDENT.clone().requires_grad_()
        satimp(logits, torch.tensor([[label]])).backward()
        assert logits.grad.abs().max().item() < 1e-15


@pytest.mark.parametrize(
    ("loss", "weight"), [(wga, 1 / 2), (lambda *x: satimp(*x, beta1=2.0), 1 / 8)]
)
def test_weights_of_tokens_are_constants(halves, loss, weight):
    # d nll / d logits is p - one_hot; with the weight, over 3 tokens, nothing else.
    logits, labels = halves
    logits.requires_grad_()
    loss(logits, labels).backward()
    expected = -weight / 3 * torch.tensor([0.5 - 1, 0.25, 0.25], dtype=torch.float64)
    assert torch.allclose(logits.grad[0, 1], expected)


def test_npo(halves):
    # nll - nll_ref = (3 log 2 - 2 log 2, 2 log 2 - 2 log 2) = (log 2, 0);
    # sigma(log 2) = 2/3, sigma(0) = 1/2; -2 (log(2/3) + log(1/2)) / 2 = log 3.
    reference_nll = torch.tensor([2 * log(2), 2 * log(2)], dtype=torch.float64)
    assert npo(*halves, reference_nll, beta=1.0).item() == pytest.approx(log(3))


def test_npo_of_the_reference_itself_is_two_over_beta_times_log_two(halves):
    reference_nll = torch.tensor([3 * log(2), 2 * log(2)], dtype=torch.float64)
    assert npo(*halves, reference_nll).item() == pytest.approx(20 * log(2))  # beta = 0.1


def test_npo_gradient_is_that_of_ascent_weighted_by_how_much_is_left_to_forget(halves):
    # d npo / d nll = -2 sigma(-beta (nll - nll_ref)) / B for each row; for row 0,
    # sigma(-log 2) = 1/3 and d nll / d logits at its first label is p - one_hot.
    logits, labels = halves
    logits.requires_grad_()
    npo(logits, labels, torch.tensor([2 * log(2), 2 * log(2)]), beta=1.0).backward()
    expected = -2 / 3 / 2 * torch.tensor([0.5 - 1, 0.25, 0.25], dtype=torch.float64)
    assert torch.allclose(logits.grad[0, 1], expected)


def test_npo_stays_finite_far_from_the_reference():
    # nll = 2000: forgotten long ago, loss 0. nll_ref = 2000 above: -2 (-2000) = 4000.
    logits, labels = torch.tensor([[[0.0, 2000.0]]]), torch.tensor([[0]])
    assert npo(logits, labels, torch.tensor([0.0]), beta=1.0).item() == 0
    assert npo(logits, labels, torch.tensor([4000.0]), beta=1.0).item() == 4000


def test_rows_without_an_answer_are_left_out_of_npo(halves):
    logits, labels = halves
    labels[1] = -100
    # Row 0 alone: -2 log sigma(log 2) = 2 log 1.5.
    loss = npo(logits, labels, torch.tensor([2 * log(2), 0.0]), beta=1.0)
    assert loss.item() == pytest.approx(2 * log(1.5))


def test_simnpo_averages_the_nll_over_the_tokens_of_a_row(halves):
    # nll / n = (3/2 log 2, 2 log 2); with beta = 2, sigma(3 log 2) = 8/9, sigma(4 log 2) = 16/17;
    # -(2 / 2) (log(8/9) + log(16/17)) / 2 = log(153/128) / 2.
    assert simnpo(*halves, beta=2.0).item() == pytest.approx(log(153 / 128) / 2)


def test_simnpo_takes_delta_off_the_nll_of_a_token(halves):
    # nll / n - delta = (1/2 log 2, log 2); sigma(log 2) = 2/3, sigma(2 log 2) = 4/5;
    # -(log(2/3) + log(4/5)) / 2 = log(15/8) / 2.
    assert simnpo(*halves, beta=2.0, delta=log(2)).item() == pytest.approx(log(15 / 8) / 2)


def test_rows_without_an_answer_are_left_out_of_simnpo(halves):
    logits, labels = halves
    labels[1] = -100
    assert simnpo(logits, labels, beta=2.0).item() == pytest.approx(log(9 / 8))


def test_maximum_entropy_is_zero_on_a_uniform_model_in_both_directions():
    logits, labels = torch.full((2, 3, 7), 5.0), torch.zeros(2, 3, dtype=torch.long)
    for direction in ("uniform_to_model", "model_to_uniform"):
        assert maximum_entropy(logits, labels, direction).item() == pytest.approx(0, abs=1e-6)


def test_maximum_entropy_by_default_is_the_published_direction(halves):
    # KL(U || p) = mean log(1/3) - log p = -log 3 + (log 2 + 2 log 4) / 3, at every position.
    assert maximum_entropy(*halves).item() == pytest.approx(5 / 3 * log(2) - log(3))
    assert maximum_entropy(*halves) == maximum_entropy(*halves, "uniform_to_model")


def test_maximum_entropy_model_to_uniform_is_log_vocabulary_minus_entropy(halves):
    # H = log(2)/2 + 2 log(4)/4 = 1.5 log 2.
    loss = maximum_entropy(*halves, direction="model_to_uniform")
    assert loss.item() == pytest.approx(log(3) - 1.5 * log(2))


def test_maximum_entropy_averages_over_labelled_positions():
    # Confident at the first position: KL(U || p) = 40 - 40/4 - log 4 (logsumexp is 40); uniform,
    # so 0, at the second; the third has no label.
    logits = torch.zeros(1, 3, 4, dtype=torch.float64)
    logits[0, 0, 0] = logits[0, 2, 0] = 40
    loss = maximum_entropy(logits, torch.tensor([[1, 3, -100]]), epsilon=0)
    assert loss.item() == pytest.approx((30 - log(4)) / 2)


def test_maximum_entropy_uniform_to_model_has_gradient_p_minus_u(halves):
    logits, labels = halves
    logits.requires_grad_()
    maximum_entropy(logits, labels).backward()
    expected = (torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64) - 1 / 3) / 3  # 3 positions
    assert torch.allclose(logits.grad[labels != -100], expected.expand(3, 3))
    assert not logits.grad[labels == -100].any()


@pytest.mark.parametrize(
    ("direction", "gradient"),
    [("uniform_to_model", [0.75, -0.25, -0.25, -0.25]), ("model_to_uniform", [0, 0, 0, 0])],
)
def test_only_the_published_direction_moves_a_confident_model(direction, gradient):
    logits = CONFIDENT.clone().requires_grad_()
    maximum_entropy(logits, ONE_LABEL, direction, epsilon=0).backward()
    assert logits.grad.flatten().tolist() == pytest.approx(gradient, abs=1e-12)


def test_maximum_entropy_of_huge_logits_is_finite_in_both_directions():
    # logsumexp 1e4, mean 1e4/4: 7500 - log 4; a certain model has entropy 0: log 4.
    logits = (CONFIDENT * 250).float().requires_grad_()
    uniform = maximum_entropy(logits, ONE_LABEL, epsilon=0)
    entropy = maximum_entropy(logits, ONE_LABEL, "model_to_uniform")
    (uniform + entropy).backward()
    assert uniform.item() == pytest.approx(7500 - log(4))
    assert entropy.item() == pytest.approx(log(4))
    assert torch.isfinite(logits.grad).all()


def test_published_epsilon_stops_the_push_on_words_that_are_all_but_impossible():
    # Three of four words have p = e^-40 < 1e-12: as published they count as 1e-12 and feel nothing.
    logits = CONFIDENT.clone().requires_grad_()
    loss = maximum_entropy(logits, ONE_LABEL)
    loss.backward()
    assert loss.item() == pytest.approx(-0.75 * log(1e-12) - log(4), abs=1e-5)
    assert logits.grad.flatten()[1:].tolist() == pytest.approx([0, 0, 0], abs=1e-5)


def test_llmu_is_gradient_ascent_and_descent_on_the_mismatched_answer(halves):
    # CE of halves: (3 + 2) log 2 over 3 tokens; of one token with p = 1/2: log 2.
    logits, labels = halves
    mismatch_labels = torch.tensor([[0, -100, -100], [-100, -100, -100]])
    loss = llmu(logits, labels, logits, mismatch_labels)
    assert loss.item() == pytest.approx(log(2) - 5 / 3 * log(2))


def test_maximum_entropy_names_the_directions_when_given_another(halves):
    message = "direction must be 'uniform_to_model' or 'model_to_uniform', not 'forward'"
    with pytest.raises(ValueError, match=message):
        maximum_entropy(*halves, direction="forward")


def test_dpo(halves):
    # The refusals are one token of p = 1/2 each: nll log 2. With a reference of
    # nll_ref(y) = (2, 2) log 2 and nll_ref(y_idk) = (2, 1) log 2:
    # row 0: (2 - 1) - (2 - 3) = 2 -> sigma(2 log 2) = 4/5
    # row 1: (1 - 1) - (2 - 2) = 0 -> sigma(0) = 1/2;  -2 (log 4/5 + log 1/2) / 2 = log 2.5
    logits, labels = halves
    idk_labels = torch.tensor([[0, -100, -100], [-100, 0, -100]])
    reference_nll = torch.tensor([2 * log(2), 2 * log(2)])
    reference_idk_nll = torch.tensor([2 * log(2), log(2)])
    loss = dpo(logits, labels, logits, idk_labels, reference_nll, reference_idk_nll, beta=1.0)
    assert loss.item() == pytest.approx(log(2.5))


def test_dpo_raises_the_refusal_and_lowers_the_answer(batch, call):
    logits, idk_logits = batch["logits"].requires_grad_(), batch["idk_logits"].requires_grad_()
    call(dpo, batch).backward()
    # At a label the gradient of the nll is p - 1 < 0: descent raises p where the sign is kept.
    answered, refused = batch["labels"] != -100, batch["idk_labels"] != -100
    at_answer = logits.grad[answered].gather(1, batch["labels"][answered].unsqueeze(1))
    at_refusal = idk_logits.grad[refused].gather(1, batch["idk_labels"][refused].unsqueeze(1))
    assert (at_answer > 0).all()
    assert (at_refusal < 0).all()


def test_rows_without_an_answer_or_a_refusal_are_left_out_of_dpo(halves):
    logits, labels = halves
    idk_labels = torch.tensor([[0, -100, -100], [-100, -100, -100]])
    reference = torch.zeros(2)
    # Row 0 alone: (0 - 1) - (0 - 3) = 2 -> -2 log sigma(2 log 2) = 2 log 1.25.
    loss = dpo(logits, labels, logits, idk_labels, reference, reference, beta=1.0)
    assert loss.item() == pytest.approx(2 * log(1.25))


def test_idk_is_the_cross_entropy_of_the_refusals(halves):
    assert idk(*halves).item() == pytest.approx(5 / 3 * log(2))


def test_altpo_prefers_the_alternate_answer(halves):
    # The alternates are one token of p = 1/2 each, as the refusals of DPO's test: log 2.5.
    logits, labels = halves
    alternate_labels = torch.tensor([[0, -100, -100], [-100, 0, -100]])
    reference_nll = torch.tensor([2 * log(2), 2 * log(2)])
    reference_alternate_nll = torch.tensor([2 * log(2), log(2)])
    loss = altpo(
        logits, labels, logits, alternate_labels, reference_nll, reference_alternate_nll, beta=1.0
    )
    assert loss.item() == pytest.approx(log(2.5))


@pytest.fixture
def states(halves):
    """Hidden states of size 2, at (1, 0) where there is no label of ``halves``."""
    states = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(2, 3, 2).clone()
    states[0, 1], states[0, 2], states[1, 0] = (
        torch.tensor(one, dtype=torch.float64) for one in ([1, 2], [4, 1], [1, 4])
    )
    return states.requires_grad_(), halves[1]


def test_rmu_averages_over_a_rows_own_positions_and_then_over_rows(states):
    # From (1, 0): row 0 (0 + 4)/2 = 2 and (9 + 1)/2 = 5, mean 7/2; row 1 (0 + 16)/2 = 8.
    # (7/2 + 8) / 2 = 23/4; over all positions it would be 5.
    activations, labels = states
    control_vector = torch.tensor([1.0, 0.0])
    loss = rmu(activations, control_vector, labels)
    assert loss.item() == 23 / 4
    assert rmu(activations, control_vector.reshape(1, 1, 2), labels) == loss
    assert rmu(activations[labels != -100], control_vector.reshape(1, 1, 2), labels) == loss


def test_rmu_pulls_each_state_to_the_control_vector(states):
    # 2 (a - c) / 2 (hidden size) / 2 (positions of row 0) / 2 (rows); row 1 has one position.
    activations, labels = states
    rmu(activations, torch.tensor([1.0, 0.0]), labels).backward()
    assert activations.grad[0].tolist() == [[0, 0], [0, 0.5], [0.75, 0.25]]
    assert activations.grad[1].tolist() == [[0, 2], [0, 0], [0, 0]]


def test_rows_without_an_answer_are_left_out_of_rmu(states):
    activations, labels = states
    labels[1] = -100
    assert rmu(activations, torch.tensor([1.0, 0.0]), labels).item() == 7 / 2
