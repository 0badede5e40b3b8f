"""Objective: what is tokenised for which loss, and losses equal to those of separate passes."""

import copy

import pandas as pd
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from closer_look.losses import FORGET, RETAIN, sequence_nll
from closer_look.models.output_head import OutputHead
from closer_look.models.packing import packed_attention
from closer_look.models.tokens import IGNORED, encode
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.training.combination import Combination
from closer_look.training.objective import Objective
from closer_look.training.reference import reference_scores

REFUSALS = ["I do not know.", "No idea at all, sorry."]
ALTERNATES = ["Jan de Wit", "Of course a shorter one"]
SEED = 4


def method(forget="gradient_ascent", retain="gradient_descent"):
    """A method with two losses, and what else these ask for."""

    def term(value):
        return value if isinstance(value, dict) else {"loss": value}

    name = term(forget)["loss"]
    return MethodParameters(
        label="X",
        forget=term(forget),
        retain=None if FORGET[name].stands_alone else term(retain),
        alternates={} if name == "altpo" else None,
        task_vector_scale=1.0 if name == "gradient_descent" else None,
    )


@pytest.fixture
def questions(make_questions):
    table = make_questions(("forget", 1, 2), ("retain", 0, 2))
    table["answer"] = ["Ilse Marwood", "A very long answer indeed", "Ö", "Thirty-one lighthouses"]
    return table


@pytest.fixture
def plan(questions):
    return pd.DataFrame(
        {
            "epoch": 1,
            "forget_row_id": ["forget-1-1", "forget-1-2"],
            "retain_row_id": ["retain-0-2", "retain-0-1"],
            "refusal": REFUSALS,
            "alternate": ALTERNATES,
        }
    )


@pytest.fixture
def evaluate(language_model, questions, plan):
    """The losses of a method on the whole plan as one batch, under a copy that has moved on."""
    moved = copy.deepcopy(language_model.model)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(
                0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
            )

    def evaluate(parameters):
        objective = Objective(parameters, SEED)
        reference = reference_scores(language_model, plan, questions, parameters, batch_size=2)
        rows = objective.encode(language_model.tokenizer, plan, questions, reference)
        batch = objective.collate(rows)
        with torch.no_grad(), packed_attention(moved):
            head = OutputHead(moved, reference.output_head or None)
            return objective.losses(moved, batch, head)

    evaluate.model = moved
    return evaluate


def separate(model, language_model, asked, texts, all_positions=False):
    """Logits and labels, each row in a forward pass of its own."""
    rows = encode(language_model.tokenizer, asked, texts)
    rows = [row.all_as_answer() if all_positions else row for row in rows]
    with torch.no_grad():
        logits = [model(torch.tensor([row.prompt + row.answer])).logits[0] for row in rows]
    aligned = [z[len(row.prompt) - 1 : -1] for z, row in zip(logits, rows, strict=True)]
    labels = [torch.tensor(row.answer) for row in rows]
    return pad_sequence(aligned, True), pad_sequence(labels, True, IGNORED)


def states_at(model, rows):
    """Hidden states behind the only layer, before the norm, at the tokens of the answers."""
    seen = []
    handle = model.model.layers[0].register_forward_hook(lambda *passed: seen.append(passed[2][0]))
    with torch.no_grad():
        for row in rows:
            model(torch.tensor([row.prompt + row.answer]))
    handle.remove()
    return pad_sequence([s[len(row.prompt) :] for s, row in zip(seen, rows, strict=True)], True)


@pytest.fixture
def blocks(evaluate, language_model, questions):
    """Every tensor that a loss may read, by side, each from forward passes of their own."""
    by_id = questions.set_index("row_id")
    forget = list(by_id.loc[["forget-1-1", "forget-1-2"], "question"])
    retain = list(by_id.loc[["retain-0-2", "retain-0-1"], "question"])
    forget_answers, retain_answers = (
        ["Ilse Marwood", "A very long answer indeed"],
        [
            "Thirty-one lighthouses",
            "Ö",
        ],
    )
    sides = {}
    for side, asked, answers, others in [
        ("forget", forget, forget_answers, retain_answers),
        ("retain", retain, retain_answers, forget_answers),
    ]:
        tensors = {}
        variants = [("", answers), ("idk_", REFUSALS), ("mismatch_", others)]
        for prefix, texts in [*variants, ("alternate_", ALTERNATES)]:
            logits, labels = separate(evaluate.model, language_model, asked, texts)
            tensors |= {f"{prefix}logits": logits, f"{prefix}labels": labels}
            reference_logits, _ = separate(language_model.model, language_model, asked, texts)
            tensors[f"reference_{prefix}nll"] = sequence_nll(reference_logits, labels)
            if prefix == "":
                tensors["reference_logits"] = reference_logits
                rows = encode(language_model.tokenizer, asked, texts)
                tensors["activations"] = states_at(evaluate.model, rows)
                kept = states_at(language_model.model, rows)[labels != IGNORED]
                tensors["reference_activations"] = kept
        # Of length 20 and, for each seed, of a direction drawn from [0, 1).
        drawn = torch.rand(16, generator=torch.Generator().manual_seed(SEED))
        tensors["control_vector"] = 20 * drawn / drawn.norm()
        sides[side] = tensors
    return sides


def called(loss, tensors, **hyperparameters):
    import inspect

    names = inspect.signature(loss).parameters.keys() & tensors.keys()
    return loss(**{name: tensors[name] for name in names}, **hyperparameters).item()


@pytest.mark.parametrize("name", FORGET)
def test_forget_loss_with_cached_reference_equals_that_of_separate_passes(name, evaluate, blocks):
    value = evaluate(method(forget=name))["forget_loss"].item()
    assert value == pytest.approx(called(FORGET[name].function, blocks["forget"]), rel=1e-5)


@pytest.mark.parametrize("name", RETAIN)
def test_retain_loss_with_cached_reference_equals_that_of_separate_passes(name, evaluate, blocks):
    value = evaluate(method(retain=name))["retain_loss"].item()
    assert value > 0
    assert value == pytest.approx(called(RETAIN[name].function, blocks["retain"]), rel=1e-5)


@pytest.mark.parametrize("side", ["forget", "retain"])
def test_question_and_answer_takes_the_loss_at_every_position_but_the_first(
    side, evaluate, language_model, questions
):
    asked, texts = {
        "forget": (["forget-1-1", "forget-1-2"], "maximum_entropy"),
        "retain": (["retain-0-2", "retain-0-1"], "kl"),
    }[side]
    rows = questions.set_index("row_id").loc[asked]
    whole = [list(rows["question"]), list(rows["answer"])]
    logits, labels = separate(evaluate.model, language_model, *whole, all_positions=True)
    tensors = {"logits": logits, "labels": labels}
    reference, _ = separate(language_model.model, language_model, *whole, all_positions=True)
    tensors["reference_logits"] = reference
    losses = FORGET if side == "forget" else RETAIN
    term = {"loss": texts, "positions": "question_and_answer"}
    value = evaluate(method(**{side: term}))[f"{side}_loss"].item()
    assert value == pytest.approx(called(losses[texts].function, tensors), rel=1e-5)


def test_padded_length_averages_over_the_rows_as_if_they_were_padded(evaluate, blocks):
    labelled = (blocks["forget"]["labels"] != IGNORED).sum().item()
    plain = evaluate(method(forget="maximum_entropy"))["forget_loss"].item()
    published = evaluate(method(forget={"loss": "maximum_entropy", "padded_length": 500}))
    assert published["forget_loss"].item() == pytest.approx(plain * labelled / (2 * 500))


def test_total_is_the_weighted_sum(evaluate):
    weighted = method(
        {"loss": "idk", "weight": 0.5}, {"loss": "answer_preservation", "weight": 2.0}
    )
    losses = evaluate(weighted)
    settings = UnlearningParameters(learning_rate=1, epochs=2, batch_size=2, seed=1)
    total = Combination.of(weighted, settings, rows_per_epoch=2).total(losses, [])
    expected = 0.5 * losses["forget_loss"] + 2 * losses["retain_loss"]
    assert losses["forget_loss"].item() != pytest.approx(losses["retain_loss"].item())
    assert total.item() == pytest.approx(expected.item())


def test_direction_of_the_control_vector_is_that_of_the_seed():
    def drawn(seed, length=20.0):
        rmu = MethodParameters(
            label="X", forget={"loss": "rmu"}, activations={"steering_coefficient": length}
        )
        return Objective(rmu, seed).control_vector(torch.zeros(3, 8))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.allclose(drawn(1), drawn(2), rtol=1e-2)
    assert drawn(1, length=2.0).norm().item() == pytest.approx(2.0)
    torch.testing.assert_close(drawn(1, length=2.0), drawn(1) / 10)
    assert (drawn(1) >= 0).all()


def test_one_loss_may_read_logits_and_the_other_hidden_states(evaluate, blocks):
    losses = evaluate(method("rmu", "kl"))
    alone = evaluate(method("gradient_ascent", "kl"))
    assert losses["retain_loss"].item() == pytest.approx(alone["retain_loss"].item(), rel=1e-5)
    expected = called(FORGET["rmu"].function, blocks["forget"])
    assert losses["forget_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_a_method_without_a_retain_loss_reads_no_row_to_retain(
    evaluate, language_model, plan, questions
):
    without = MethodParameters(label="X", forget={"loss": "ce_u"})
    assert evaluate(without).keys() == {"forget_loss"}
    scores = reference_scores(language_model, plan, questions, without, batch_size=2)
    (first, _) = Objective(without).encode(language_model.tokenizer, plan, questions, scores)
    assert first.keys() == {"forget_name", "forget_tokens"}


@pytest.mark.parametrize(
    ("forget", "retain", "blocks"),
    [
        ("gradient_ascent", "gradient_descent", ["forget", "retain"]),
        ("idk", "gradient_descent", ["forget_idk", "retain"]),
        ("idk", "answer_preservation", ["forget_idk", "retain", "retain_idk"]),
        ("dpo", "kl", ["forget", "forget_idk", "retain"]),
        ("llmu", "kl", ["forget", "forget_mismatch", "retain"]),
        ("altpo", "kl", ["forget", "forget_alternate", "retain"]),
        ("rmu", "kl", ["retain"]),
    ],
)
def test_only_the_text_variants_that_a_loss_reads_are_tokenised(forget, retain, blocks):
    objective = Objective(method(forget, retain))
    assert [f"{term.side}_{v}".strip("_") for term, v in objective.blocks] == blocks


def test_every_text_has_end_of_sequence_as_its_last_label(language_model, questions, plan):
    objective = Objective(method("idk", "answer_preservation"))
    empty = pd.DataFrame({"row_id": [], "text": [], "nll": []})
    from closer_look.training.reference_scores import ReferenceScores

    scores = ReferenceScores(empty, {}, None)
    rows = objective.encode(language_model.tokenizer, plan, questions, scores)
    batch = objective.collate(rows)
    labels = batch["labels"].split(batch["answer_lengths"])
    assert len(labels) == 3 * 2
    assert all(of_row[-1] == language_model.tokenizer.eos_token_id for of_row in labels)


def test_a_question_with_two_answers_is_there_once(language_model, questions, plan):
    """DPO reads each forget question twice, with its answer and with a refusal."""
    objective = Objective(method("dpo"))
    reference = reference_scores(language_model, plan, questions, method("dpo"), batch_size=2)
    rows = objective.encode(language_model.tokenizer, plan, questions, reference)
    batch = objective.collate(rows)
    answered = [row[name] for name in ("forget_tokens", "forget_idk_tokens") for row in rows]
    for row, n_own in zip(answered[2:], batch["own_lengths"][2:4], strict=True):
        assert n_own <= len(row.answer)
    assert batch["path_lengths"][2:4] == [len(row) - 1 for row in answered[2:]]
