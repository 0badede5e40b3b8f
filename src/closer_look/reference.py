"""Scores of the frozen reference model, computed once before a task is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch

from closer_look.errors import InputError
from closer_look.objective import ANSWER, REFUSAL, Objective
from closer_look.reference_scores import ReferenceScores
from closer_look.scoring import score
from closer_look.tokens import IGNORED, answer_batch

if TYPE_CHECKING:
    from torch import Tensor

    from closer_look.language_model import LanguageModel
    from closer_look.objective import Term
    from closer_look.parameters import MethodParameters


def reference_scores(
    language_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    method: MethodParameters,
    batch_size: int,
) -> ReferenceScores:
    """Score what the method's losses compare with the reference: each text once, and no others.

    Nothing for GA, ME, IDK, GD and AP; the nll of the forget answers for NPO, of the refusals too
    for DPO; the hidden states of the retain rows for KL.
    """
    objective = Objective(method)
    nll = _forget_nll(language_model, plan, questions, objective.forget, batch_size)
    if "reference_logits" not in objective.retain.inputs:
        return ReferenceScores(nll, {}, None)
    rows = questions[questions["row_id"].isin(plan["retain_row_id"])]
    states = _hidden_states(language_model, rows, objective.retain, batch_size)
    head = language_model.model.get_output_embeddings().weight.detach().float().cpu().clone()
    return ReferenceScores(nll, states, head)


def _forget_nll(
    language_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    term: Term,
    batch_size: int,
) -> pd.DataFrame:
    asked = questions.set_index("row_id").loc[plan["forget_row_id"]]
    texts = {ANSWER: asked["answer"].to_numpy(), REFUSAL: plan["refusal"].to_numpy()}
    compared = [
        pd.DataFrame({"row_id": asked.index, "question": asked["question"], "text": texts[variant]})
        for variant in (ANSWER, REFUSAL)
        if f"reference_{variant}nll" in term.inputs
    ]
    if not compared:
        return pd.DataFrame({"row_id": [], "text": [], "nll": []}).astype({"nll": float})
    wanted = pd.concat(compared).drop_duplicates(["row_id", "text"], ignore_index=True)
    scores = score(
        language_model,
        list(wanted["question"]),
        list(wanted["text"]),
        batch_size,
        description="Scoring reference",
    )
    return wanted[["row_id", "text"]].assign(nll=scores["nll"])


@torch.inference_mode()
def _hidden_states(
    language_model: LanguageModel, rows: pd.DataFrame, term: Term, batch_size: int
) -> dict[str, Tensor]:
    """Inputs of the output head at the positions that the loss takes.

    Raises:
        InputError: the model does more with them than multiply by the head.
    """
    model, tokenizer = language_model
    model.eval()
    (encoded,) = term.encode(
        tokenizer, list(rows["question"]), {ANSWER: list(rows["answer"])}
    ).values()
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    states = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = answer_batch([encoded[i] for i in chosen])
        labels = batch.pop("labels")
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        hidden = model.get_decoder()(**inputs, use_cache=False).last_hidden_state
        aligned = hidden[:, -labels.shape[1] - 1 : -1].float().cpu()
        for i, row_states, row_labels in zip(chosen, aligned, labels, strict=True):
            states[rows["row_id"].iloc[i]] = row_states[row_labels != IGNORED].clone()
    _check_head(model, inputs, hidden)
    return states


def _check_head(model, inputs: dict[str, Tensor], hidden: Tensor) -> None:
    logits = model(**inputs, logits_to_keep=1).logits[:, -1].float()
    from_head = model.get_output_embeddings()(hidden[:, -1]).float()
    if not torch.allclose(logits, from_head, atol=1e-3):
        raise InputError(
            f"loss 'kl': the logits of {type(model).__name__} are not its last hidden states times "
            f"its output head; choose another retain loss"
        )
