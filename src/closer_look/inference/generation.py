"""Generation: a model's greedy answers to questions.

Three things make it fast: prompts share the computation of a common prefix, ended answers leave
the batch, and repetitive text is guessed and verified several tokens at a time (prompt lookup).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from closer_look.inference.decoding import choose_decoder
from closer_look.metrics import token_entropy
from closer_look.models.tokens import check_room, encode_prompts, end_tokens
from closer_look.system.memory import in_passes
from closer_look.system.progress import progress_bar

if TYPE_CHECKING:
    from closer_look.models.language_model import LanguageModel


@torch.inference_mode()
def generate(
    language_model: LanguageModel,
    questions: Sequence[str],
    max_length: int,
    batch_size: int,
    openings: Sequence[Sequence[int]] | None = None,
    description: str = "Generating",
    n_tokens: int | None = None,
) -> pd.DataFrame:
    """Answer each question by greedy decoding.

    Args:
        language_model: put into evaluation mode.
        questions: N questions.
        max_length: largest number of tokens of prompt and answer together; longer answers are cut.
        batch_size: questions decoded together, halved when they do not fit into memory; the
            answers do not depend on it.
        openings: token ids with which each answer is known to begin (``scoring.greedy_prefixes``);
            they are not decoded again.
        description: label of the progress bar.
        n_tokens: largest number of tokens of an answer, if that is not all that ``max_length``
            leaves.

    Returns:
        N rows in the order given: ``generated`` (text), ``n_tokens`` (without end-of-sequence),
        ``token_entropy`` of those tokens and ``stopped_by`` ("eos" or "length").

    Raises:
        InputError: a prompt leaves no room for an answer, or a single one does not fit into memory.
    """
    model, tokenizer = language_model
    model.eval()
    prompts = encode_prompts(tokenizer, questions)
    check_room(prompts, questions, max_length)
    ends = set(end_tokens(language_model))
    room = [min(max_length - len(prompt), n_tokens or max_length) for prompt in prompts]
    answers = [list(opening) for opening in openings or [[]] * len(prompts)]
    unfinished = [i for i, ids in enumerate(answers) if len(ids) < room[i] and ends.isdisjoint(ids)]
    unfinished.sort(
        key=lambda i: len(prompts[i]) + len(answers[i])
    )  # similar lengths, less padding

    decode = choose_decoder(model, prompts, max_length)

    def decode_pass(chosen: Sequence[int]) -> list[list[int]]:
        return decode(
            model,
            [prompts[i] + answers[i] for i in chosen],
            [room[i] - len(answers[i]) for i in chosen],
            ends,
        )

    with progress_bar(len(prompts), description, "answer") as progress:
        progress.update(len(prompts) - len(unfinished))
        for chosen, decoded in in_passes(decode_pass, unfinished, batch_size):
            for i, ids in zip(chosen, decoded, strict=True):
                answers[i] += ids
            progress.update(len(chosen))
    return pd.DataFrame(
        [_answer(tokenizer, ids[:n], ends) for ids, n in zip(answers, room, strict=True)]
    )


def _answer(tokenizer, ids: list[int], ends: set[int]) -> dict[str, object]:
    end = next((position for position, token in enumerate(ids) if token in ends), None)
    ended = end is not None
    ids = ids[:end]
    return {
        "generated": tokenizer.decode(ids, skip_special_tokens=True).strip(),
        "n_tokens": len(ids),
        "token_entropy": token_entropy(ids),
        "stopped_by": "eos" if ended else "length",
    }
