"""Sampling: answers drawn at random from a model's distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import GenerationConfig

from closer_look.inference.decoding import (
    STILL_DECODED,
    choose_decoder,
    decode_together,
    keeps_every_token,
    prefill,
)
from closer_look.models.tokens import end_tokens
from closer_look.system.memory import in_passes
from closer_look.system.progress import progress_bar

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache, PreTrainedModel

    from closer_look.models.language_model import LanguageModel


@torch.inference_mode()
def sample(
    language_model: LanguageModel,
    prompt: Sequence[int],
    n: int,
    *,
    max_length: int,
    temperature: float,
    seed: int,
) -> list[str]:
    """Draw n answers to a prompt, from the whole distribution.

    Args:
        language_model: put into evaluation mode.
        prompt: its token ids.
        n: number of answers.
        max_length: largest number of tokens of prompt and answer together; longer answers are cut.
        temperature: by which logits are divided.
        seed: the only source of randomness.

    Returns:
        n texts, without special tokens.
    """
    model, tokenizer = language_model
    model.eval()
    settings = GenerationConfig(
        max_new_tokens=max(max_length - len(prompt), 1),
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        num_return_sequences=n,
        eos_token_id=end_tokens(language_model),
        pad_token_id=tokenizer.eos_token_id,
    )
    text = torch.tensor([prompt], device=model.device)
    own = model.generation_config
    model.generation_config = GenerationConfig()  # its own would fill in what is not set here
    try:
        with torch.random.fork_rng(devices=None):
            torch.manual_seed(seed)
            whole = model.generate(
                text, attention_mask=torch.ones_like(text), generation_config=settings
            )
    finally:
        model.generation_config = own
    answers = whole[:, len(prompt) :].tolist()
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in answers]


@torch.inference_mode()
def sample_each(
    language_model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    n: int,
    *,
    n_tokens: int,
    batch_size: int,
    temperature: float,
    seed: int,
) -> list[list[str]]:
    """Draw n answers to each of several prompts, many at a time.

    Each answer follows from random numbers of its own, whatever is decoded beside it.

    Args:
        language_model: put into evaluation mode.
        prompts: their token ids.
        n: number of answers to each.
        n_tokens: largest number of tokens of an answer; longer answers are cut.
        batch_size: answers decoded together, but all of one prompt at least; prompts in a pass are
            halved when they do not fit into memory.
        temperature: by which logits are divided.
        seed: the only source of randomness.

    Returns:
        n texts for each prompt, without special tokens.
    """
    model, tokenizer = language_model
    model.eval()
    ends = set(end_tokens(language_model))
    longest = max(map(len, prompts)) + n_tokens
    together = choose_decoder(model, prompts, longest) is decode_together

    def sample_pass(places: Sequence[int]) -> list[list[str]]:
        if not together:  # the model is changed by padding, or repeats no state
            return [
                sample(
                    language_model,
                    prompts[place],
                    n,
                    max_length=len(prompts[place]) + n_tokens,
                    temperature=temperature,
                    seed=_seed(seed, place),
                )
                for place in places
            ]
        numbers = [
            torch.rand(n, n_tokens, generator=torch.Generator().manual_seed(_seed(seed, place)))
            for place in places
        ]
        own = [list(prompts[place]) for place in places]
        ids = _sample_together(model, own, torch.stack(numbers), temperature, ends)
        texts = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return [texts[start : start + n] for start in range(0, len(texts), n)]

    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    answers: dict[int, list[str]] = {}
    with progress_bar(len(prompts), "Sampling", "question") as progress:
        for places, texts in in_passes(sample_pass, order, max(1, batch_size // n)):
            answers |= dict(zip(places, texts, strict=True))
            progress.update(len(places))
    return [answers[place] for place in range(len(prompts))]


def _seed(seed: int, place: int) -> int:
    return int(np.random.default_rng([seed, place]).integers(2**63))


def _sample_together(
    model: PreTrainedModel,
    prompts: list[list[int]],
    numbers: Tensor,
    temperature: float,
    ends: set[int],
) -> list[list[int]]:
    """Sample answers to all prompts together, dropping those that have ended from the batch.

    Args:
        model: in evaluation mode.
        prompts: B prompts.
        numbers: (B, n, n_tokens) uniform random numbers, one for each token of an answer.
        temperature: by which logits are divided.
        ends: tokens that end an answer.

    Returns:
        B * n answers, without their ends.
    """
    n = numbers.shape[1]
    numbers = numbers.flatten(0, 1).to(model.device)  # (B * n, n_tokens)
    mask, cache, logits = _read(model, prompts, n)  # (B * n, tokens), (B * n, V)
    position = mask.sum(1, keepdim=True)  # (b, 1), of the next token
    answers: list[list[int]] = [[] for _ in numbers]
    rows, unfinished = list(range(len(answers))), set(range(len(answers)))
    for step in range(numbers.shape[1]):
        tokens = _draw(logits, numbers[rows, step], temperature)  # (b,)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if token in ends:
                unfinished.discard(row)
            elif row in unfinished:
                answers[row].append(token)
        if not unfinished or step + 1 == numbers.shape[1]:
            break
        if len(unfinished) <= STILL_DECODED * len(rows):  # selecting rows copies the cache
            kept = torch.tensor([row in unfinished for row in rows], device=model.device)
            cache.batch_select_indices(kept)
            mask, position, tokens = mask[kept], position[kept], tokens[kept]
            rows = [row for row in rows if row in unfinished]
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        logits = model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            logits_to_keep=1,
            use_cache=True,
        ).logits[:, -1]
        position = position + 1
    return answers


def _read(model: PreTrainedModel, prompts: list[list[int]], n: int) -> tuple[Tensor, Cache, Tensor]:
    """Read each prompt once for n answers to it: mask, cache and logits of the first tokens."""
    inputs = prefill(model, prompts)
    output = model(**inputs, logits_to_keep=1, use_cache=True)
    if keeps_every_token(output.past_key_values):
        output.past_key_values.batch_repeat_interleave(n)
        mask, logits = inputs["attention_mask"], output.logits[:, -1]
        return mask.repeat_interleave(n, 0), output.past_key_values, logits.repeat_interleave(n, 0)
    inputs = prefill(model, [prompt for prompt in prompts for _ in range(n)])
    output = model(**inputs, logits_to_keep=1, use_cache=True)
    return inputs["attention_mask"], output.past_key_values, output.logits[:, -1]


def _draw(logits: Tensor, numbers: Tensor, temperature: float) -> Tensor:
    """Draw a token of each row, (b,), where a uniform number falls among the probabilities."""
    shares = (logits.float() / temperature).softmax(-1).cumsum(-1)  # (b, V), the last is about 1
    drawn = torch.searchsorted(shares, numbers[:, None] * shares[:, -1:], right=True)
    return drawn[:, 0].clamp(max=shares.shape[-1] - 1)
