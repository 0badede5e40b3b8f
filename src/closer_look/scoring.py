"""Log-probabilities of given answers: one pass, from which every likelihood metric comes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from tqdm.auto import tqdm

from closer_look.tokens import IGNORED, encode, group_by_length, on_device, pad_right, prompt_batch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache

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
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt), rows[i].prompt))
    scored: dict[int, dict[str, object]] = {}
    with tqdm(total=len(rows), desc=description, unit="answer", disable=None) as progress:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            values = _score_batch(model, [rows[i] for i in chosen])
            scored |= dict(zip(chosen, values, strict=True))
            progress.update(len(chosen))
    return pd.DataFrame([scored[i] for i in range(len(rows))])


def _score_batch(model, rows: list[Tokens]) -> list[dict[str, object]]:
    """Score answers; a prompt that several of them share goes through the model once."""
    position = {prompt: i for i, prompt in enumerate(dict.fromkeys(tuple(r.prompt) for r in rows))}
    prompts = on_device(prompt_batch(list(position)), model.device)
    asked = model(**prompts, logits_to_keep=1, use_cache=True)
    scored = {}
    for group in group_by_length([len(row.answer) for row in rows]):
        prompt_of = torch.tensor([position[tuple(rows[i].prompt)] for i in group])
        values = _score_group(
            model,
            prompts["attention_mask"][prompt_of],
            asked.logits[prompt_of],
            _select(asked.past_key_values, prompt_of),
            [rows[i].answer for i in group],
        )
        scored |= dict(zip(group, values, strict=True))
    return [scored[i] for i in range(len(rows))]


def _select(cache: Cache, rows: Tensor) -> Cache:
    """Some rows of a cache, which stays as it is: selecting makes new tensors."""
    selected = copy.copy(cache)
    selected.layers = [copy.copy(layer) for layer in cache.layers]
    selected.batch_select_indices(rows)
    return selected


def _score_group(
    model, prompt_mask: Tensor, first_logits: Tensor, cache: Cache, answers: list[list[int]]
) -> list[dict[str, object]]:
    """Score an answer behind each prompt: its first token from the prompt's last logits."""
    targets = pad_right(answers, IGNORED).to(model.device)
    present = targets != IGNORED
    targets = targets.clamp(min=0)
    logits = first_logits
    if targets.shape[1] > 1:
        steps = torch.arange(targets.shape[1] - 1, device=model.device)
        continued = model(
            input_ids=targets[:, :-1],
            attention_mask=torch.cat([prompt_mask, present[:, :-1]], dim=1),
            position_ids=prompt_mask.sum(1, keepdim=True) + steps,
            past_key_values=cache,
            use_cache=True,
        )
        logits = torch.cat([first_logits, continued.logits], dim=1)
    logits = logits.float()
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    log_probabilities = (chosen - logits.logsumexp(-1)).cpu()
    hits = (logits.argmax(-1) == targets).cpu()
    return [
        {
            "nll": -values[mask].sum().item(),
            "n_tokens": int(mask.sum()),
            "token_log_probabilities": values[mask].tolist(),
            "token_hits": row_hits[mask].tolist(),
        }
        for values, row_hits, mask in zip(log_probabilities, hits, present.cpu(), strict=True)
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
