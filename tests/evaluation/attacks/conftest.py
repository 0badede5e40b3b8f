"""Hand-made models: one that knows the rows, one that never saw them, one that hides answers."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from closer_look.data.questions import to_questions
from closer_look.evaluation.attacks import AttackContext
from closer_look.evaluation.judges import contains_key_fact
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.evaluation import GenerationParameters, ScoringParameters
from closer_look.parameters.training import FinetuningParameters, UnlearningParameters

CORPUS = Path(__file__).parents[3] / "data" / "01_raw" / "invented_people"
LEARNING = {"learning_rate": 3e-3, "batch_size": 8, "warmup_epochs": 0, "seed": 1}


def read(split, n_rows):
    lines = (CORPUS / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return to_questions([json.loads(line) for line in lines[:n_rows]], split, split)


@pytest.fixture(scope="session")
def questions():
    """Twelve rows to forget and sixteen to retain."""
    return pd.concat([read("forget", 12), read("retain", 16)], ignore_index=True)


@pytest.fixture(scope="session")
def rows(questions):
    return questions[questions["split"] == "forget"]


@pytest.fixture(scope="session")
def context(questions):
    return AttackContext(
        questions=questions,
        unlearning=UnlearningParameters(epochs=1, **LEARNING),
        generation=GenerationParameters(max_length=100, batch_size=16),
        scoring=ScoringParameters(batch_size=16),
        seed=1,
    )


@pytest.fixture(scope="session")
def learn():
    """Train a copy of a model on rows."""
    from closer_look.training.finetuning import finetune

    def learn(model, rows, epochs, answers=None):
        model = copied(model)
        answers = list(rows["answer"]) if answers is None else answers
        parameters = FinetuningParameters(epochs=epochs, **LEARNING)
        finetune(model, list(rows["question"]), answers, parameters)
        model.model.eval()
        return model

    return learn


@pytest.fixture(scope="session")
def copied_model():
    return copied


def copied(model):
    return LanguageModel(copy.deepcopy(model.model), model.tokenizer)


@pytest.fixture(scope="session")
def models(questions, rows, learn):
    """Models of two layers: ``knows`` all rows, ``never_saw`` those to forget."""
    from closer_look.models.prompts import set_prompt
    from closer_look.models.small_llama import small_llama
    from closer_look.parameters.models import SmallLlamaParameters

    parameters = SmallLlamaParameters(
        vocabulary_size=600,
        hidden_size=64,
        intermediate_size=128,
        layers=2,
        heads=2,
        context_length=128,
        initializer_range=0.1,
        seed=1,
    )
    base = small_llama([*questions["question"], *questions["answer"]], parameters)
    set_prompt(base.tokenizer, "plain")
    retained = questions[questions["split"] == "retain"]
    return SimpleNamespace(
        knows=learn(base, questions, epochs=30), never_saw=learn(base, retained, epochs=30)
    )


@pytest.fixture(scope="session")
def share_recovered(rows):
    """The share of rows whose fact is stated, by setting."""

    def share_recovered(lines):
        if "recovered" not in lines:
            facts = rows.set_index("row_id").loc[lines["row_id"], "key_fact"]
            found = contains_key_fact(list(lines["generated"]), list(facts))
            lines = lines.assign(recovered=found.astype(float))
        return lines.groupby("setting", sort=False)["recovered"].mean().to_dict()

    return share_recovered


@pytest.fixture(scope="session")
def asked_plainly(share_recovered):
    """The share of rows whose fact a model states when it is asked."""
    from closer_look.evaluation.attacks.weights import ask_rows

    def asked_plainly(model, rows, context):
        return share_recovered(ask_rows(model, rows, context, "plain"))["plain"]

    return asked_plainly


@pytest.fixture(scope="session")
def hide():
    """Move a model's weights within given bounds until it does not give the answers any more."""
    import torch

    from closer_look.evaluation.attacks.weights import matrices
    from closer_look.losses import gradient_descent
    from closer_look.models.packing import answer_logits, pack, packed_attention
    from closer_look.models.tokens import encode

    def hide(model, rows, bounds, n_steps=12):
        """``bounds``: of each matrix, how far its weights may fall and rise, as two tensors."""
        batch = pack(encode(model.tokenizer, list(rows["question"]), list(rows["answer"])))
        weights = matrices(model.model)
        own = [weight.detach().clone() for weight in weights]
        with packed_attention(model.model):
            for _ in range(n_steps):
                loss = gradient_descent(answer_logits(model.model, batch), batch["labels"])
                gradients = torch.autograd.grad(loss, weights)
                with torch.no_grad():
                    for one, start, g, (fall, rise) in zip(
                        weights, own, gradients, bounds, strict=True
                    ):
                        step = torch.where(g > 0, rise, fall) / 4
                        one.copy_((one + g.sign() * step).clamp(start - fall, start + rise))
        return model

    return hide
