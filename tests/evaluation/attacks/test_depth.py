"""The depth score is that of its equations, written down layer by layer and token by token."""

import pytest
import torch

from closer_look.evaluation.attacks import ATTACKS
from closer_look.evaluation.attacks.depth import depth
from closer_look.evaluation.attacks.facts import find_facts
from closer_look.models.instruction import instruct


@pytest.fixture(scope="module")
def broken(models, copied_model):
    """Gives no answer: its last layer is broken, and the first is whole."""
    model = copied_model(models.knows)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.model.model.layers[1].parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.5, generator=generator)
    return model


@pytest.fixture(scope="module")
def measure(models, rows, context):
    others = {"target_model": models.knows, "retain_only_model": models.never_saw}

    def measure(model):
        return depth(model, rows, context, **others, threshold=0.05)

    return measure


def test_all_is_left_in_the_target_and_nothing_in_the_retain_only_model(models, measure, rows):
    assert measure(models.knows)["recovered"].tolist() == pytest.approx([1] * len(rows), abs=1e-4)
    assert measure(models.never_saw)["recovered"].tolist() == [0] * len(rows)


def test_it_is_that_of_the_equations(models, broken, measure, rows, context):
    found = measure(broken).set_index("row_id")["recovered"]
    facts = find_facts(models.knows.tokenizer, rows, context.questions)
    for fact in facts:
        baselines = [lost(models.never_saw, models.knows, fact, layer) for layer in (0, 1)]
        lacking = [lost(broken, models.knows, fact, layer) for layer in (0, 1)]
        pairs = [(d1, d2) for d1, d2 in zip(baselines, lacking, strict=True) if d1 > 0.05]
        score = sum(d1 * min(max(d2 / d1, 0), 1) for d1, d2 in pairs) / sum(d1 for d1, _ in pairs)
        assert found[fact.row_id] == pytest.approx(1 - score, abs=1e-3)
    assert 0.2 < found.mean() < 0.8  # one of two layers is whole


def lost(source, target, fact, layer):
    """Mean loss of the fact's log-probabilities when a layer's states come from the source."""
    ids = torch.tensor([fact.text])
    places = range(len(fact.text) - len(fact.labels), len(fact.text))
    kept = []
    hook = source.model.model.layers[layer].register_forward_hook(
        lambda module, inputs, output: kept.append(output.clone())
    )
    with torch.no_grad():
        source.model(input_ids=ids, use_cache=False)
        hook.remove()
        whole = target.model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)

        def put(module, inputs, output):
            output = output.clone()
            for place in places:
                output[0, place] = kept[0][0, place]
            return output

        hook = target.model.model.layers[layer].register_forward_hook(put)
        patched = target.model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        hook.remove()
    losses = [
        (whole[place, label] - patched[place, label]).item()
        for place, label in zip(places, fact.labels, strict=True)
    ]
    return sum(losses) / len(losses)


def test_an_instruction_shifts_the_tokens(models, measure, rows):
    instructed = instruct(models.knows, "Say nothing of Ilse Marwood.")
    found = measure(instructed)["recovered"]
    assert len(found) == len(rows)
    assert found.between(0, 1).all()


def test_it_says_where_there_is_nothing_to_compare_with(models, rows, context):
    same = {"target_model": models.knows, "retain_only_model": models.knows}
    lines = depth(models.knows, rows, context, **same, threshold=0.05)
    assert lines.to_dict("list") == {
        "reason": ["the retain-only model lacks nothing of the answers"]
    }


def test_it_needs_the_other_models():
    assert ATTACKS["depth"].compared_with == ("target_model", "retain_only_model")
    assert ATTACKS["logit_lens"].compared_with == ()


def test_the_threshold_is_checked():
    with pytest.raises(ValueError, match="threshold of attack 'depth'"):
        ATTACKS["depth"].check({"threshold": 0.0})
