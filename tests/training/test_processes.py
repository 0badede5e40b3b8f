"""Several processes train as one does: every method, sharded or not."""

import copy

import pandas as pd
import pytest
import torch

from closer_look.models.language_model import LanguageModel
from closer_look.parameters.training import LoraParameters
from closer_look.training.sharding import trained_weights

METHODS = [
    *("altpo_gd", "ce_u", "dpo_gd", "dpo_kl", "dual_optim", "flat", "ga_gd", "ga_kl"),
    *("grad_surgery", "idk_ap", "idk_gd", "idk_kl", "llmu", "me_gd", "npo_gd", "npo_kl", "pdu_gd"),
    *("rmu", "satimp_gd", "simnpo_gd", "task_vector", "undial", "wga_gd"),
]
LORA = LoraParameters(rank=4, dropout=0.0)
LOSSES = ["loss", "forget_loss", "retain_loss"]


@pytest.fixture
def questions(make_questions):
    """Answers of different lengths: a mean over rows and one over tokens differ."""
    made = make_questions(("forget", 1, 3), ("retain", 0, 3))
    made["answer"] = [answer + " and more" * n for n, answer in enumerate(made["answer"])]
    return made


@pytest.fixture
def trained(language_model, unlearn_task, questions, shipped_methods):
    """Unlearn with a method: the log and the weights."""

    def trained(name, **options):
        model = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        options = {"epochs": 2, "warmup_epochs": 0.5, "batch_size": 3} | options
        own = shipped_methods[name] | ({"epochs": 2} if "epochs" in shipped_methods[name] else {})
        model, log = unlearn_task(model, questions, own, **options)
        return log, trained_weights(model.model)

    return trained


def assert_equal(found, expected):
    (log, weights), (expected_log, expected_weights) = found, expected
    columns = [one for one in LOSSES if one in expected_log]
    pd.testing.assert_frame_equal(log[columns], expected_log[columns], rtol=2e-4)
    for name, weight in expected_weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("lora", [None, LORA], ids=["whole", "lora"])
def test_two_processes_train_as_one(in_processes, trained, lora):
    expected = {name: trained(name, lora=lora) for name in METHODS}
    for sharding in ("full", "none"):
        found, _ = in_processes(
            lambda sharding=sharding: {
                name: trained(name, lora=lora, sharding=sharding) for name in METHODS
            }
        )
        for name in METHODS:
            assert_equal(found[name], expected[name])
