"""Greedy decoding in three ways: batched with a cache, one by one, or without a cache.

Batched decoding is the fastest, but not every model supports it: some keep a state that cannot be
cut back, measure distances in cache slots, or change a row when it is padded. So each kind of model
is tried once (``choose_decoder``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice, takewhile
from typing import TYPE_CHECKING

import torch
from accelerate.utils import send_to_device
from accelerate.utils.memory import should_reduce_batch_size
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig
from transformers.cache_utils import DynamicLayer

from closer_look.models.language_model import model_kind
from closer_look.models.tokens import prompt_batch

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

    from closer_look.models.tokens import Batch

STILL_DECODED = 0.75  # if a smaller share of the batch is unfinished, ended answers leave the cache
POSITIONS = 16  # rows x tokens of a pass that takes little longer than a pass over one token
TRIED = 8
ROOM = [TRIED // 2, TRIED]  # tokens decoded of two prompts to try a decoder: one ends first

Decoder = Callable[["PreTrainedModel", list[list[int]], list[int], set[int]], list[list[int]]]
"""(model in evaluation mode, B prompts, largest number of new tokens for each, ends) -> token ids
of each answer, with its end token if it has one; ids behind it are meaningless."""

_chosen: dict[tuple[str, str], tuple[int, Decoder]] = {}  # kind of model -> length tried, decoder


def choose_decoder(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_length: int
) -> Decoder:
    """Choose the fastest decoder that is correct for this kind of model.

    Decoders are tried on two pairs of prompts, each with the longest possible one. Answers must
    equal those without a cache, which define greedy decoding.

    Args:
        model: in evaluation mode.
        prompts: prompts to be answered, whose tokens make the two prompts.
        max_length: largest number of tokens of prompt and answer together.
    """
    kind = model_kind(model)
    tried_length, decoder = _chosen.get(kind, (0, decode_without_cache))
    if tried_length >= max_length:
        return decoder
    tokens = [token for prompt in prompts for token in prompt]
    longest = list(islice(cycle(tokens), max(max_length - TRIED, 8)))
    # The long prompt beside one that shares nothing with it, then beside its own beginning.
    pairs = [[tokens[:3][::-1], longest], [longest[: len(longest) // 2], longest]]
    expected = [decode_without_cache(model, pair, ROOM, set()) for pair in pairs]
    decoder = next(
        (
            one
            for one in (decode_together, decode_alone)
            if [_answers(one, model, pair) for pair in pairs] == expected
        ),
        decode_without_cache,
    )
    _chosen[kind] = (max_length, decoder)
    return decoder


def _answers(
    decoder: Decoder, model: PreTrainedModel, pair: list[list[int]]
) -> list[list[int]] | None:
    """Return the tokens that a decoder answers with; None if the model fails with it."""
    try:
        answers = decoder(model, pair, ROOM, set())
    except Exception as error:  # a model may fail in any way when it lacks support
        if should_reduce_batch_size(error):
            raise
        return None
    return [ids[:n] for ids, n in zip(answers, ROOM, strict=True)]


def decode_without_cache(
    model: PreTrainedModel, prompts: list[list[int]], room: list[int], ends: set[int]
) -> list[list[int]]:
    """Decode answers token by token, with a pass over the whole text for each."""
    answers = []
    for prompt, n in zip(prompts, room, strict=True):
        ids: list[int] = []
        while len(ids) < n and ends.isdisjoint(ids):
            text = torch.tensor([prompt + ids], device=model.device)
            ids.append(model(input_ids=text, use_cache=False).logits[0, -1].argmax().item())
        answers.append(ids)
    return answers


def decode_alone(
    model: PreTrainedModel, prompts: list[list[int]], room: list[int], ends: set[int]
) -> list[list[int]]:
    """Decode one answer after another, greedily, with the model's own ``generate``."""
    answers = []
    for prompt, n in zip(prompts, room, strict=True):
        settings = GenerationConfig(
            max_new_tokens=n,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=sorted(ends) or None,
            pad_token_id=0,
        )
        text = torch.tensor([prompt], device=model.device)
        whole = model.generate(
            text, attention_mask=torch.ones_like(text), generation_config=settings
        )
        answers.append(whole[0, len(prompt) :].tolist())
    return answers


def decode_together(
    model: PreTrainedModel, prompts: list[list[int]], room: list[int], ends: set[int]
) -> list[list[int]]:
    """Decode answers to all prompts together, dropping those that have ended from the batch.

    When few answers are left, several next tokens of each are guessed from its repetitions, and one
    pass verifies them: a guess counts if it is the model's greedy choice. An unlearned model often
    repeats itself, so it needs few passes.
    """
    # B rows at first; b rows are still in the batch, g tokens are guessed in this pass.
    inputs = prefill(model, prompts)
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
        n_to_guess = POSITIONS // len(rows) - 1 if keeps_every_token(cache) else 0
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


def prefill(model: PreTrainedModel, prompts: list[list[int]]) -> Batch:
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
    if cache is None or not keeps_every_token(cache):
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


def keeps_every_token(cache: Cache) -> bool:
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
