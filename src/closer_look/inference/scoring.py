"""Scoring: log-probabilities of given answers, from which every likelihood metric is computed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from operator import itemgetter
from typing import TYPE_CHECKING

import pandas as pd
import torch
from accelerate.utils import send_to_device

from closer_look.errors import InputError, quote
from closer_look.models.packing import distinct_logits, pack, packed_attention
from closer_look.models.tokens import encode
from closer_look.system.memory import in_passes
from closer_look.system.progress import progress_bar

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from closer_look.models.language_model import LanguageModel
    from closer_look.models.tokens import Tokens


MOST_AT_A_TIME = 2**18
"""Log-probabilities in one part of a table of them: 1 MB, which a processor's cache holds."""


@torch.inference_mode()
def score(
    language_model: LanguageModel,
    questions: Sequence[str],
    answers: Sequence[str],
    batch_size: int,
    description: str = "Scoring",
    *,
    with_moments: bool = False,
) -> pd.DataFrame:
    """Score each answer given its question.

    Args:
        language_model: put into evaluation mode.
        questions: N questions.
        answers: N answers.
        batch_size: rows in one forward pass, halved when they do not fit into memory; the scores
            do not depend on it.
        description: label of the progress bar.
        with_moments: add ``token_means`` and ``token_variances``.

    Returns:
        N rows in the order given: ``nll`` (nats, summed over the answer's tokens and its
        end-of-sequence), ``n_tokens``, and lists with a value per token:
        ``token_log_probabilities`` (nats), ``token_hits`` (whether the token is the model's most
        likely one), and, if asked for, ``token_means`` and ``token_variances`` of the
        log-probability of a token drawn from the model there.

    Raises:
        InputError: a single row does not fit into memory.
    """
    model, tokenizer = language_model
    model.eval()
    rows = encode(tokenizer, questions, answers)
    # Sorted by tokens, rows with a common prefix come into the same pass and share it.
    order = sorted(range(len(rows)), key=lambda i: rows[i].prompt + rows[i].answer)
    scored: dict[int, dict[str, object]] = {}

    def score_pass(chosen: Sequence[int]) -> list[dict[str, object]]:
        return _score_batch(model, [rows[i] for i in chosen], with_moments=with_moments)

    with (
        packed_attention(model, max(map(len, rows), default=0)),
        progress_bar(len(rows), description, "answer") as progress,
    ):
        for chosen, values in in_passes(score_pass, order, batch_size):
            scored |= dict(zip(chosen, values, strict=True))
            progress.update(len(chosen))
    return pd.DataFrame([scored[i] for i in range(len(rows))])


def _score_batch(
    model: PreTrainedModel, rows: Sequence[Tokens], *, with_moments: bool
) -> list[dict[str, object]]:
    """Score the answers of rows in one packed forward pass."""
    batch = send_to_device(pack(rows), model.device)
    logits, place = distinct_logits(model, batch)  # (m, V), and (n,) indices into them
    labels, lengths = batch["labels"], batch["answer_lengths"]
    hits = logits.argmax(-1)[place] == labels
    log_probabilities = logits.float().log_softmax(-1)
    del logits
    of_tokens = {
        "token_log_probabilities": log_probabilities[place, labels],
        "token_hits": hits,
    }
    if with_moments:
        means, variances = _moments(log_probabilities)
        of_tokens |= {"token_means": means[place], "token_variances": variances[place]}
    of_rows = {name: values.cpu().split(lengths) for name, values in of_tokens.items()}
    return [
        {"nll": -values.sum().item(), "n_tokens": len(values)}
        | {name: of_row[number].tolist() for name, of_row in of_rows.items()}
        for number, values in enumerate(of_rows["token_log_probabilities"])
    ]


def _moments(log_probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and variance of log p under p itself: (m, V) -> (m,), (m,)."""
    means, variances = [], []
    # In parts: a copy of the whole would be the largest tensor of the pass.
    for part in log_probabilities.split(max(1, MOST_AT_A_TIME // log_probabilities.shape[1])):
        # Below -200, p is 0 in float32; minus infinity times 0 would be NaN.
        values, p = part.clamp(min=-200), part.exp()
        mean = torch.linalg.vecdot(p, values)
        means.append(mean)
        variances.append(torch.linalg.vecdot(p, values.sub_(mean[:, None]).square_()))
    return torch.cat(means), torch.cat(variances)


def greedy_prefixes(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    answers: Sequence[str],
    token_hits: Sequence[Sequence[bool]],
) -> list[list[int]]:
    """Return the longest prefix of each answer that greedy decoding would also produce.

    Args:
        tokenizer: the tokenizer of the model that scored the answers.
        questions: N questions.
        answers: N answers.
        token_hits: ``token_hits`` from ``score``, a list per answer.

    Returns:
        Token ids of each answer up to, without, the first that is not the model's most likely one.
    """
    rows = encode(tokenizer, questions, answers)
    return [
        [token for token, _ in takewhile(itemgetter(1), zip(row.answer, hits, strict=True))]
        for row, hits in zip(rows, token_hits, strict=True)
    ]


def check_scores(scores: pd.DataFrame, row_ids: Sequence[str]) -> None:
    """Check stored scores of a retain-only model.

    Args:
        scores: table that the node ``score_answers`` stored.
        row_ids: ids of the forget rows that are evaluated.

    Raises:
        InputError: a column is missing, a row has two scores of a kind, or no row has any.
    """
    for column in ("split", "row_id", "kind", "nll", "n_tokens"):
        if column not in scores:
            raise InputError(f"retain_only_scores: column '{column}' is missing")
    repeated = scores[scores.duplicated(["split", "row_id", "kind"])]
    if len(repeated):
        row_id, kind = repeated.iloc[0][["row_id", "kind"]]
        raise InputError(f"retain_only_scores: row {quote(row_id)} has two scores of kind '{kind}'")
    scored = scores.loc[scores["split"] == "forget", "row_id"]
    if scored.isin(row_ids).sum() == 0:
        raise InputError(
            f"retain_only_scores: no row to forget has a score (the first is {quote(row_ids[0])}); "
            f"use scores of the rows of this run"
        )
