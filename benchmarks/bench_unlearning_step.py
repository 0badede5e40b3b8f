"""One optimiser step of unlearning here, against the published protocol written plainly.

The published code (arXiv 2410.08109) pads every row to 500 tokens, computes every logit, and keeps
a second model for NPO. Same rows, same model, same optimiser; `make bench` prints medians.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from closer_look.datasets.raw_rows import QuestionsDataset
from closer_look.losses import FORGET, gradient_descent, sequence_nll
from closer_look.objective import Objective
from closer_look.parameters import MethodParameters, SmallLlamaParameters
from closer_look.planning import draw_plan
from closer_look.prompts import set_prompt
from closer_look.reference import reference_scores
from closer_look.small_llama import small_llama
from closer_look.tokens import IGNORED, answer_logits, encode

CORPUS = Path(__file__).parents[1] / "data" / "01_raw" / "invented_people"
BATCH_SIZE, PADDED_LENGTH = 8, 500
METHODS = {"GA+GD": "gradient_ascent", "ME+GD": "maximum_entropy", "NPO+GD": "npo"}


@pytest.fixture(scope="module")
def questions():
    import pandas as pd

    splits = [
        QuestionsDataset(filepath=str(CORPUS / f"{split}.jsonl"), split=split).load()
        for split in ("forget", "retain")
    ]
    return pd.concat(splits, ignore_index=True)


@pytest.fixture(scope="module")
def language_model(questions):
    """The model of `conf/tofu_small`, untrained: a step costs the same."""
    made = small_llama(
        [*questions["question"], *questions["answer"]],
        SmallLlamaParameters(
            vocabulary_size=4096,
            hidden_size=256,
            intermediate_size=704,
            layers=4,
            heads=4,
            context_length=512,
            seed=1,
        ),
    )
    set_prompt(made.tokenizer, "plain")
    return made


@pytest.fixture(scope="module")
def plan(questions):
    generator = np.random.default_rng(1)
    drawn = draw_plan(
        questions, ["I do not know."], 1, epochs=1, pairing="fixed", generator=generator
    )
    return drawn.head(BATCH_SIZE)


@pytest.fixture
def here(language_model, questions, plan):
    def prepare(loss):
        method = MethodParameters(
            label="", forget={"loss": loss}, retain={"loss": "gradient_descent"}
        )
        objective = Objective(method)
        reference = reference_scores(language_model, plan, questions, method, BATCH_SIZE)
        rows = objective.encode(language_model.tokenizer, plan, questions, reference)
        batch = objective.collate(rows)
        return lambda model: objective.loss(answer_logits(model, batch), batch)["loss"]

    return prepare


@pytest.fixture
def published(language_model, questions, plan):
    def padded(rows):
        """Right-padded to 500, labels on the answers, attention mask; as the published code."""
        ids = torch.full((len(rows), PADDED_LENGTH), language_model.tokenizer.eos_token_id)
        labels = torch.full((len(rows), PADDED_LENGTH), IGNORED)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row.prompt + row.answer)
            labels[i, len(row.prompt) : len(row)] = torch.tensor(row.answer)
        mask = torch.tensor([[j < len(row) for j in range(PADDED_LENGTH)] for row in rows]).long()
        return {"input_ids": ids, "attention_mask": mask}, labels[:, 1:]

    def prepare(loss):
        by_id = questions.set_index("row_id")
        blocks = []
        for side in ("forget", "retain"):
            chosen = by_id.loc[plan[f"{side}_row_id"]]
            texts = list(chosen["question"]), list(chosen["answer"])
            blocks.append(padded(encode(language_model.tokenizer, *texts)))
        (forget, forget_labels), (retain, retain_labels) = blocks
        reference_model = copy.deepcopy(language_model.model).eval()

        def compute(model):
            logits = model(**forget).logits[:, :-1]
            extra = ()
            if loss == "npo":
                with torch.no_grad():
                    reference_logits = reference_model(**forget).logits[:, :-1]
                extra = (sequence_nll(reference_logits, forget_labels),)
            kept = gradient_descent(model(**retain).logits[:, :-1], retain_labels)
            return FORGET[loss](logits, forget_labels, *extra) + kept

        return compute

    return prepare


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("protocol", ["here", "published"])
def test_unlearning_step(benchmark, request, language_model, method, protocol):
    compute_loss = request.getfixturevalue(protocol)(METHODS[method])
    model = copy.deepcopy(language_model.model).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step():
        compute_loss(model).backward()
        optimiser.step()
        optimiser.zero_grad()

    benchmark.group = method
    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    assert all(weight.isfinite().all() for weight in model.parameters())
