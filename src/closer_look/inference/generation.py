"""Greedy answers of a model to questions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import pandas as pd
import torch
from accelerate.utils import send_to_device
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicLayer

from closer_look.errors import InputError, quote
from closer_look.metrics import token_entropy
from closer_look.models.tokens import encode_prompts, prompt_batch
from closer_look.system.memory import in_passes
from closer_look.system.progress import progress_bar

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

    from closer_look.models.language_model import LanguageModel
    from closer_look.models.tokens import Batch

STILL_DECODED = 0.75  # of a batch's answers; when fewer go on, the ended ones leave the cache
POSITIONS = 16  # in a pass that takes little longer than one with a single position


@torch.inference_mode()
def generate(
    language_model: LanguageModel,
    questions: Sequence[str],
    max_length: int,
    batch_size: int,
    openings: Sequence[Sequence[int]] | None = None,
    description: str = "Generating",
) -> pd.DataFrame:
    """Answer each question by greedy decoding.

    Args:
        language_model: put into evaluation mode.
        questions: N questions.
        max_length: tokens of prompt and answer together at which an answer is cut.
        batch_size: questions decoded together, halved where they do not fit into memory; the
            answers do not depend on it.
        openings: token ids with which each answer is known to begin (``scoring.greedy_prefixes``);
            they are not decoded again.
        description: what the progress bar says.

    Returns:
        N rows in the order given: ``generated`` (text), ``n_tokens`` (without end-of-sequence),
        ``token_entropy`` of those tokens and ``stopped_by`` ("eos" or "length").

    Raises:
        InputError: a prompt leaves no room for an answer, or a single one does not fit into memory.
    """
    model, tokenizer = language_model
    model.eval()
    prompts = encode_prompts(tokenizer, questions)
    for question, prompt in zip(questions, prompts, strict=True):
        if len(prompt) >= max_length:
            raise InputError(
                f"parameter generation.max_length: {max_length} leaves no room for an answer to "
                f"{quote(question)}, whose prompt takes {len(prompt)} tokens"
            )
    ends = _end_tokens(language_model)
    room = [max_length - len(prompt) for prompt in prompts]
    answers = [list(opening) for opening in openings or [[]] * len(prompts)]
    unfinished = [i for i, ids in enumerate(answers) if len(ids) < room[i] and ends.isdisjoint(ids)]
    unfinished.sort(key=lambda i: len(prompts[i]) + len(answers[i]))

    def decode_pass(chosen: Sequence[int]) -> list[list[int]]:
        return _decode(
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


def _decode(
    model: PreTrainedModel, prompts: list[list[int]], room: list[int], ends: set[int]
) -> list[list[int]]:
    """Choose token after token for all prompts together; answers that have ended drop out.

    Where few answers are left, their next tokens are guessed, and the same pass shows how many of
    them are the model's choices: one that goes round in circles, as after unlearning, takes few.

    Returns:
        Token ids of each answer, with its end if it has one; what follows it means nothing.
    """
    inputs = _prefill(model, prompts)
    mask, guessed = inputs["attention_mask"], inputs["input_ids"][:, :0]
    position = mask.sum(1, keepdim=True)  # of the next token
    end = max(len(prompt) + n for prompt, n in zip(prompts, room, strict=True))
    answers: list[list[int]] = [[] for _ in prompts]
    rows, unfinished = list(range(len(prompts))), set(range(len(prompts)))
    while True:
        n_guessed = guessed.shape[1]
        output = model(**inputs, logits_to_keep=n_guessed + 1, use_cache=True)
        chosen = output.logits[:, -n_guessed - 1 :].argmax(-1)
        is_right = (guessed == chosen[:, :-1]).cumprod(1)
        n_right = is_right.sum(1, keepdim=True)
        for row, tokens, n in zip(rows, chosen.tolist(), n_right[:, 0].tolist(), strict=True):
            answers[row] += tokens[: n + 1]
            if len(answers[row]) >= room[row] or not ends.isdisjoint(tokens[: n + 1]):
                unfinished.discard(row)
        if not unfinished:
            return answers
        cache = output.past_key_values
        mask[:, mask.shape[1] - n_guessed :] = is_right  # nothing sees the key of a wrong guess
        n_wrong = n_guessed - int(n_right.max())
        if n_wrong:
            cache.crop(-n_wrong)
            mask = mask[:, :-n_wrong]
        position = position + n_right
        if len(unfinished) <= STILL_DECODED * len(rows):
            kept = torch.tensor([row in unfinished for row in rows], device=model.device)
            cache.batch_select_indices(kept)
            mask, position = mask[kept], position[kept]
            rows = [row for row in rows if row in unfinished]
        n_to_guess = POSITIONS // len(rows) - 1 if _keeps_every_token(cache) else 0
        guesses = [_guess(prompts[row] + answers[row], n_to_guess) for row in rows]
        guessed = pad_sequence([torch.tensor(g, dtype=torch.long) for g in guesses], True)
        last = torch.tensor([answers[row][-1:] for row in rows])
        input_ids = torch.cat([last, guessed], dim=1).to(model.device)
        guessed = input_ids[:, 1:]
        mask = torch.cat([mask, torch.ones_like(input_ids)], dim=1)
        new = torch.arange(input_ids.shape[1], device=model.device)
        inputs = {
            "input_ids": input_ids,
            "attention_mask": mask,
            "position_ids": (position + new).clamp(max=end - 1),
            "past_key_values": cache,
        }
        position = position + 1


def _prefill(model: PreTrainedModel, prompts: list[list[int]]) -> Batch:
    """Inputs of the first pass; what all prompts begin with has gone through the model once."""
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    n_shared = len(list(takewhile(lambda tokens: len(set(tokens)) == 1, columns)))
    cache = None
    if n_shared * (len(prompts) - 1) > POSITIONS:  # it spares more than a pass of its own costs
        shared = torch.tensor([prompts[0][:n_shared]], device=model.device)
        cache = model(input_ids=shared, logits_to_keep=1, use_cache=True).past_key_values
    if cache is None or not _keeps_every_token(cache):  # padding behind it would fill a window
        return send_to_device(prompt_batch(prompts), model.device)
    cache.batch_repeat_interleave(len(prompts))
    own = send_to_device(prompt_batch([prompt[n_shared:] for prompt in prompts]), model.device)
    seen = torch.ones_like(own["input_ids"][:, :1]).expand(-1, n_shared)
    return {
        "input_ids": own["input_ids"],
        "attention_mask": torch.cat([seen, own["attention_mask"]], dim=1),
        "position_ids": own["position_ids"] + n_shared,
        "past_key_values": cache,
    }


def _keeps_every_token(cache: Cache) -> bool:
    """Whether every token stays by itself: none slides out of a window or goes into a state."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def _guess(text: list[int], n_tokens: int) -> list[int]:
    """Go on as the text did when its last two tokens stood there before, round and round."""
    if n_tokens < 1:  # many answers go on: no time is spent on looking
        return []
    for start in range(len(text) - 3, -1, -1):
        if text[start : start + 2] == text[-2:]:
            repeated = text[start + 2 :]
            return [repeated[i % len(repeated)] for i in range(n_tokens)]
    return []


def _end_tokens(language_model: LanguageModel) -> set[int]:
    """End of sequence, and what else the model came with: chat models may end a turn otherwise."""
    own = language_model.model.generation_config.eos_token_id
    if not isinstance(own, list):
        own = [] if own is None else [own]
    return {language_model.tokenizer.eos_token_id, *own}


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
