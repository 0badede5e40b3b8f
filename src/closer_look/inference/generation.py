"""Generation: a model's greedy answers to questions.

Three things make it fast: prompts share the computation of a common prefix, ended answers leave
the batch, and repetitive text is guessed and verified several tokens at a time (prompt lookup).
"""

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
from closer_look.models.tokens import encode_prompts, end_token, prompt_batch
from closer_look.system.memory import in_passes
from closer_look.system.progress import progress_bar

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

    from closer_look.models.language_model import LanguageModel
    from closer_look.models.tokens import Batch

STILL_DECODED = 0.75  # if a smaller share of the batch is unfinished, ended answers leave the cache
POSITIONS = 16  # rows x tokens of a pass that takes little longer than a pass over one token


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
        max_length: largest number of tokens of prompt and answer together; longer answers are cut.
        batch_size: questions decoded together, halved when they do not fit into memory; the
            answers do not depend on it.
        openings: token ids with which each answer is known to begin (``scoring.greedy_prefixes``);
            they are not decoded again.
        description: label of the progress bar.

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
                f"{quote(question)}, whose prompt takes {len(prompt)} tokens; raise it"
            )
    ends = _end_tokens(language_model)
    room = [max_length - len(prompt) for prompt in prompts]
    answers = [list(opening) for opening in openings or [[]] * len(prompts)]
    unfinished = [i for i, ids in enumerate(answers) if len(ids) < room[i] and ends.isdisjoint(ids)]
    unfinished.sort(
        key=lambda i: len(prompts[i]) + len(answers[i])
    )  # similar lengths, less padding

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
    """Decode answers to all prompts together, dropping those that have ended from the batch.

    When few answers are left, several next tokens of each are guessed from its repetitions, and one
    pass verifies them: a guess counts if it is the model's greedy choice. An unlearned model often
    repeats itself, so it needs few passes.

    Args:
        model: in evaluation mode.
        prompts: B lists of token ids.
        room: largest number of new tokens for each prompt.
        ends: token ids that end an answer.

    Returns:
        Token ids of each answer, with its end token if it has one; ids behind it are meaningless.
    """
    # B rows at first; b rows are still in the batch, g tokens are guessed in this pass.
    inputs = _prefill(model, prompts)
    mask, guessed = inputs["attention_mask"], inputs["input_ids"][:, :0]  # (b, tokens), (b, g = 0)
    position = mask.sum(1, keepdim=True)  # (b, 1), of the next token
    end = max(len(prompt) + n for prompt, n in zip(prompts, room, strict=True))
    answers: list[list[int]] = [[] for _ in prompts]
    rows, unfinished = list(range(len(prompts))), set(range(len(prompts)))
    while True:
        n_guessed = guessed.shape[1]
        output = model(**inputs, logits_to_keep=n_guessed + 1, use_cache=True)
        # Greedy choices behind the last token and behind each guess, (b, g + 1).
        chosen = output.logits[:, -n_guessed - 1 :].argmax(-1)
        # (b, g): cumprod makes every guess after the first wrong one wrong, too.
        is_right = (guessed == chosen[:, :-1]).cumprod(1)
        n_right = is_right.sum(1, keepdim=True)  # (b, 1)
        for row, tokens, n in zip(rows, chosen.tolist(), n_right[:, 0].tolist(), strict=True):
            # The right guesses, and the model's choice after them: at least one token a pass.
            answers[row] += tokens[: n + 1]
            if len(answers[row]) >= room[row] or not ends.isdisjoint(tokens[: n + 1]):
                unfinished.discard(row)
        if not unfinished:
            return answers
        cache = output.past_key_values
        mask[:, mask.shape[1] - n_guessed :] = is_right  # hide the keys of wrong guesses
        # Rows accept different numbers of guesses: cut the columns that are wrong in every row.
        n_wrong = n_guessed - int(n_right.max())
        if n_wrong:
            cache.crop(-n_wrong)
            mask = mask[:, :-n_wrong]
        position = position + n_right
        # Selecting rows copies the cache, so wait until it pays.
        if len(unfinished) <= STILL_DECODED * len(rows):
            kept = torch.tensor([row in unfinished for row in rows], device=model.device)
            cache.batch_select_indices(kept)
            mask, position = mask[kept], position[kept]
            rows = [row for row in rows if row in unfinished]
        # A sliding window or a state cannot take back a wrong guess.
        n_to_guess = POSITIONS // len(rows) - 1 if _keeps_every_token(cache) else 0
        guesses = [_guess(prompts[row] + answers[row], n_to_guess) for row in rows]
        # Padded with token 0: one more guess, which is verified like the others.
        guessed = pad_sequence([torch.tensor(g, dtype=torch.long) for g in guesses], True)
        last = torch.tensor([answers[row][-1:] for row in rows])  # (b, 1), not in the cache yet
        input_ids = torch.cat([last, guessed], dim=1).to(model.device)  # (b, 1 + g)
        guessed = input_ids[:, 1:]
        mask = torch.cat([mask, torch.ones_like(input_ids)], dim=1)
        new = torch.arange(input_ids.shape[1], device=model.device)
        inputs = {
            "input_ids": input_ids,
            "attention_mask": mask,
            # Guesses and ended rows may run past the longest answer, and past the model's context.
            "position_ids": (position + new).clamp(max=end - 1),
            "past_key_values": cache,
        }
        position = position + 1


def _prefill(model: PreTrainedModel, prompts: list[list[int]]) -> Batch:
    """Make the inputs of the first pass, with a shared prefix of the prompts already cached.

    Returns:
        ``input_ids`` and ``position_ids``, (B, new), ``attention_mask``, (B, cached + new), and the
        cache if there is one.
    """
    # Each prompt keeps its last token: there must be one to pass for the first logits.
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    n_shared = len(list(takewhile(lambda tokens: len(set(tokens)) == 1, columns)))
    cache = None
    if n_shared * (len(prompts) - 1) > POSITIONS:  # else a pass of its own costs more than it saves
        shared = torch.tensor([prompts[0][:n_shared]], device=model.device)  # (1, n_shared)
        cache = model(input_ids=shared, logits_to_keep=1, use_cache=True).past_key_values
    # Padding would lie between the shared prefix and the rest, and take room in a sliding window.
    if cache is None or not _keeps_every_token(cache):
        return send_to_device(prompt_batch(prompts), model.device)
    cache.batch_repeat_interleave(len(prompts))  # batch of 1 -> B
    own = send_to_device(prompt_batch([prompt[n_shared:] for prompt in prompts]), model.device)
    seen = torch.ones_like(own["input_ids"][:, :1]).expand(-1, n_shared)  # (B, n_shared)
    return {
        "input_ids": own["input_ids"],
        "attention_mask": torch.cat([seen, own["attention_mask"]], dim=1),
        "position_ids": own["position_ids"] + n_shared,
        "past_key_values": cache,
    }


def _keeps_every_token(cache: Cache) -> bool:
    """Check that a cache holds all tokens: no sliding window, no recurrent state."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def _guess(text: list[int], n_tokens: int) -> list[int]:
    """Guess that a text continues as it did after the last occurrence of its last two tokens."""
    if n_tokens < 1:  # many answers are in the batch: do not search in vain
        return []
    for start in range(len(text) - 3, -1, -1):
        if text[start : start + 2] == text[-2:]:
            repeated = text[start + 2 :]  # what followed it, up to the end: a loop may repeat
            return [repeated[i % len(repeated)] for i in range(n_tokens)]
    return []


def _end_tokens(language_model: LanguageModel) -> set[int]:
    """Return the tokens that end an answer: chat models may have more than end-of-sequence."""
    own = language_model.model.generation_config.eos_token_id
    if not isinstance(own, list):
        own = [] if own is None else [own]
    tokenizer = language_model.tokenizer
    return {tokenizer.eos_token_id, end_token(tokenizer), *own}


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
