"""Greedy answers of a model to questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig

from closer_look.errors import InputError
from closer_look.metrics import token_entropy
from closer_look.tokens import encode_prompts, prompt_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from closer_look.language_model import LanguageModel


@torch.inference_mode()
def generate(
    language_model: LanguageModel,
    questions: Sequence[str],
    max_length: int,
    batch_size: int,
    description: str = "Generating",
) -> pd.DataFrame:
    """Answer each question by greedy decoding.

    Args:
        language_model: put into evaluation mode.
        questions: N questions.
        max_length: tokens of prompt and answer together at which an answer is cut.
        batch_size: questions decoded together; the answers do not depend on it.
        description: what the progress bar says.

    Returns:
        N rows in the order given: ``generated`` (text), ``n_tokens`` (without end-of-sequence),
        ``token_entropy`` of those tokens and ``stopped_by`` ("eos" or "length").

    Raises:
        InputError: a prompt leaves no room for an answer.
    """
    model, tokenizer = language_model
    model.eval()
    prompts = encode_prompts(tokenizer, questions)
    for question, prompt in zip(questions, prompts, strict=True):
        if len(prompt) >= max_length:
            raise InputError(
                f"parameter generation.max_length: {max_length} leaves no room for an answer to "
                f"'{question}', whose prompt takes {len(prompt)} tokens"
            )
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answered: dict[int, dict[str, object]] = {}
    with tqdm(total=len(prompts), desc=description, unit="answer", disable=None) as progress:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            answers = _generate_batch(language_model, [prompts[i] for i in chosen], max_length)
            answered |= dict(zip(chosen, answers, strict=True))
            progress.update(len(chosen))
    return pd.DataFrame([answered[i] for i in range(len(prompts))])


def _generate_batch(
    language_model: LanguageModel, prompts: list[list[int]], max_length: int
) -> list[dict[str, object]]:
    model, tokenizer = language_model
    inputs = prompt_batch(prompts)
    del inputs["position_ids"]  # generate() derives them from the mask
    padded_length = inputs["input_ids"].shape[1]
    room = [max_length - len(prompt) for prompt in prompts]
    ends = _end_tokens(language_model)
    with _no_defaults(model):
        output = model.generate(
            **{name: tensor.to(model.device) for name, tensor in inputs.items()},
            max_new_tokens=max(room),
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
            eos_token_id=ends,
        )
    return [
        _answer(tokenizer, ids[:limit], ends)
        for ids, limit in zip(output[:, padded_length:].tolist(), room, strict=True)
    ]


@contextmanager
def _no_defaults(model: PreTrainedModel) -> Iterator[None]:
    """Set aside the model's own settings: a repetition penalty, say, is no greedy decoding."""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _end_tokens(language_model: LanguageModel) -> list[int]:
    """End of sequence, and what else the model came with: chat models may end a turn otherwise."""
    own = language_model.model.generation_config.eos_token_id
    if not isinstance(own, list):
        own = [] if own is None else [own]
    return list(dict.fromkeys([language_model.tokenizer.eos_token_id, *own]))


def _answer(tokenizer, ids: list[int], ends: list[int]) -> dict[str, object]:
    end = next((position for position, token in enumerate(ids) if token in ends), None)
    ended = end is not None
    ids = ids[:end]
    return {
        "generated": tokenizer.decode(ids, skip_special_tokens=True).strip(),
        "n_tokens": len(ids),
        "token_entropy": token_entropy(ids),
        "stopped_by": "eos" if ended else "length",
    }
