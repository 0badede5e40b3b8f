"""Log-probabilities of given answers: one pass, from which every likelihood metric comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from tqdm.auto import tqdm

from closer_look.tokens import IGNORED, answer_batch, answer_logits, encode

if TYPE_CHECKING:
    from closer_look.language_model import LanguageModel
    from closer_look.tokens import Tokens


@torch.inference_mode()
def score(
    language_model: LanguageModel,
    questions: Sequence[str],
    answers: Sequence[str],
    batch_size: int,
    description: str = "Scoring",
) -> pd.DataFrame:
    """Score each answer given its question.

    Args:
        language_model: put into evaluation mode.
        questions: N questions.
        answers: N answers.
        batch_size: rows in one forward pass; the scores do not depend on it.
        description: what the progress bar says.

    Returns:
        N rows in the order given: ``nll`` (nats, summed over the answer's tokens and its
        end-of-sequence), ``n_tokens``, ``token_log_probabilities`` (nats) and ``token_hits``
        (whether the token is the model's first choice), the latter two as lists.
    """
    model, tokenizer = language_model
    model.eval()
    rows = encode(tokenizer, questions, answers)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
    scored: dict[int, dict[str, object]] = {}
    with tqdm(total=len(rows), desc=description, unit="answer", disable=None) as progress:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            values = _score_batch(model, [rows[i] for i in chosen])
            scored |= dict(zip(chosen, values, strict=True))
            progress.update(len(chosen))
    return pd.DataFrame([scored[i] for i in range(len(rows))])


def _score_batch(model, rows: list[Tokens]) -> list[dict[str, object]]:
    batch = {name: tensor.to(model.device) for name, tensor in answer_batch(rows).items()}
    logits = answer_logits(model, batch).float()
    targets = batch["labels"].clamp(min=0)
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    log_probabilities = (chosen - logits.logsumexp(-1)).cpu()
    hits = (logits.argmax(-1) == targets).cpu()
    present = (batch["labels"] != IGNORED).cpu()
    return [
        {
            "nll": -values[mask].sum().item(),
            "n_tokens": int(mask.sum()),
            "token_log_probabilities": values[mask].tolist(),
            "token_hits": row_hits[mask].tolist(),
        }
        for values, row_hits, mask in zip(log_probabilities, hits, present, strict=True)
    ]


def given_answers(evaluation: pd.DataFrame) -> pd.DataFrame:
    """List the answers to score for each row: the gold, the paraphrased and the wrong ones.

    Args:
        evaluation: rows of the questions table.

    Returns:
        ``split``, ``row_id``, ``question``, ``kind`` ("answer", "paraphrased", "wrong_1", ...)
        and ``text``.
    """
    listed = []
    for row in evaluation.itertuples():
        texts = {"answer": row.gold_answer}
        if isinstance(row.paraphrased_answer, str):
            texts["paraphrased"] = row.paraphrased_answer
        texts |= {f"wrong_{n}": text for n, text in enumerate(row.wrong_answers, start=1)}
        listed += [
            {"split": row.split, "row_id": row.row_id, "question": row.question, "kind": kind}
            | {"text": text}
            for kind, text in texts.items()
        ]
    return pd.DataFrame(listed)
