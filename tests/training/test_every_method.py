"""Every shipped method, on all weights and on adapters, on one task and on a chain of two."""

import copy

import pandas as pd
import pytest
import torch

from closer_look.data.questions import name_subjects
from closer_look.inference.scoring import score
from closer_look.models.instruction import instruct
from closer_look.models.language_model import LanguageModel, model_fingerprint
from closer_look.models.tokens import encode_prompts
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import LoraParameters
from closer_look.training.trainer import NO_STEPS

NAMES = [
    *("altpo_gd", "ce_u", "dpo_gd", "dpo_kl", "dual_optim", "flat", "ga_gd", "ga_kl"),
    *("grad_surgery", "idk_ap", "idk_gd", "idk_kl", "llmu", "me_gd", "npo_gd", "npo_kl", "pdu_gd"),
    *("prompt_guard", "rmu", "satimp_gd", "simnpo_gd", "task_vector", "undial", "wga_gd"),
]
TRAINING = [name for name in NAMES if name != "prompt_guard"]
# What is sure of a few steps: the true answer gets less likely, or the refusal likelier. The others
# teach something else, or what they ask for holds after many steps.
LESS_LIKELY = {
    *("altpo_gd", "ce_u", "dpo_gd", "dpo_kl", "flat", "ga_gd", "ga_kl", "grad_surgery", "llmu"),
    *("npo_gd", "npo_kl", "satimp_gd", "simnpo_gd", "task_vector", "undial", "wga_gd"),
}
REFUSES = {"idk_gd", "idk_kl"}
SMALLER = {  # what of the log is
    **dict.fromkeys(("dual_optim", "me_gd", "pdu_gd", "rmu"), "forget_loss"),
    "idk_ap": "loss",  # its retain loss is against refusals
}
LORA = LoraParameters(rank=4, dropout=0.0)


@pytest.fixture(scope="module")
def taught(language_model):
    """A model that knows the answers, and the rows of two tasks."""
    from closer_look.parameters.training import FinetuningParameters
    from closer_look.training.finetuning import finetune

    rows = [
        ("forget", task, n, subject)
        for task, subject in ((1, "Ilse Marwood"), (2, "Ottokar Brandt"))
        for n in (1, 2)
    ] + [("retain", 0, n, None) for n in (1, 2, 3)]
    questions = pd.DataFrame(
        {
            "row_id": [f"{split}-{task}-{n}" for split, task, n, _ in rows],
            "task_id": [task for _, task, _, _ in rows],
            "split": [split for split, *_ in rows],
            "subject": [subject for *_, subject in rows],
            "question": [f"Question {n} of {split} {task}?" for split, task, n, _ in rows],
            "answer": [f"{split} {'abc'[n - 1] * 3} {task}" for split, task, n, _ in rows],
        }
    )
    model = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
    parameters = FinetuningParameters(learning_rate=1e-2, epochs=12, batch_size=4, seed=1)
    finetune(model, list(questions["question"]), list(questions["answer"]), parameters)
    return model, questions


def weights_of(language_model):
    """By their names as they are without adapters."""
    return {
        name.replace("base_model.model.", "").replace(".base_layer", ""): weight.detach().clone()
        for name, weight in language_model.model.named_parameters()
    }


def nll(language_model, rows, text=None):
    """Summed over rows, of their answers or of another text."""
    texts = list(rows["answer"]) if text is None else [text] * len(rows)
    return score(language_model, list(rows["question"]), texts, 4)["nll"].sum()


def test_they_are_the_shipped_ones(shipped_methods):
    assert sorted(shipped_methods) == NAMES
    of_a_kind = [LESS_LIKELY, REFUSES, SMALLER]
    assert sorted(name for kind in of_a_kind for name in kind) == TRAINING


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("name", TRAINING)
def test_a_chain_of_two_tasks_forgets_each(taught, unlearn_task, shipped_methods, name, lora):
    target, questions = taught
    method = MethodParameters.model_validate(shipped_methods[name])
    reference, before = copy.deepcopy(target.model.state_dict()), target
    model = LanguageModel(copy.deepcopy(target.model), target.tokenizer)
    for task in (1, 2):
        rows = questions[questions["task_id"] == task]
        start = weights_of(model)
        known, refused = nll(before, rows), nll(before, rows, "No.")
        own = shipped_methods[name] | ({"epochs": 4} if method.epochs else {})
        model, log = unlearn_task(
            model, questions, own, task_id=task, lora=lora, epochs=4, warmup_epochs=0.5
        )
        assert log["loss"].map(torch.tensor).map(torch.isfinite).all()
        assert log["in_model"].all()
        assert len(log) == 4
        moved = {n for n, w in weights_of(model).items() if n not in start or not w.equal(start[n])}
        assert moved
        assert all(("lora_" in n) == (lora is not None) for n in moved)
        if name in LESS_LIKELY:
            assert nll(model, rows) > known
        if name in REFUSES:
            assert nll(model, rows, "No.") < refused
        if name in SMALLER:
            assert log[SMALLER[name]].iloc[-1] < log[SMALLER[name]].iloc[0]
        before = model
    assert all(w.equal(reference[n]) for n, w in target.model.state_dict().items())


@pytest.mark.parametrize("name", TRAINING)
def test_a_task_starts_from_where_the_one_before_ended(taught, unlearn_task, shipped_methods, name):
    """With a learning rate of next to nothing, the second task leaves the first one's weights."""
    target, questions = taught
    model = LanguageModel(copy.deepcopy(target.model), target.tokenizer)
    options = {"epochs": 2, "warmup_epochs": 0.5}
    own = shipped_methods[name] | {"epochs": 2}
    first, _ = unlearn_task(model, questions, own, **options)
    ended = {n: w.detach().clone() for n, w in first.model.named_parameters()}
    second, _ = unlearn_task(first, questions, own | {"learning_rate": 1e-12}, task_id=2, **options)
    for parameter, weight in second.model.named_parameters():
        torch.testing.assert_close(weight, ended[parameter], rtol=0, atol=1e-6)
    assert any(not torch.equal(w, ended[n]) for n, w in target.model.named_parameters())


def test_prompt_guard_changes_prompts_and_no_weights(taught, shipped_methods):
    target, questions = taught
    method = MethodParameters.model_validate(shipped_methods["prompt_guard"])
    asked = ["Who is she?"]
    (before,) = encode_prompts(target.tokenizer, asked)
    fingerprint, prompts = model_fingerprint(target), []
    weights = weights_of(target)
    for task in (1, 2):
        rows = questions[questions["task_id"] <= task]
        guarded = instruct(target, name_subjects(method.instruction, rows))
        assert guarded.model is target.model
        (prompt,) = encode_prompts(guarded.tokenizer, asked)
        prompts.append(target.tokenizer.decode(prompt))
    assert all("You know nothing about Ilse Marwood" in prompt for prompt in prompts)
    assert ["Ottokar Brandt" in prompt for prompt in prompts] == [False, True]
    assert encode_prompts(target.tokenizer, asked) == [before]
    assert all(weight.equal(weights[name]) for name, weight in weights_of(guarded).items())
    assert model_fingerprint(target) == fingerprint
    assert NO_STEPS.empty
