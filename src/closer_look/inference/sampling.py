"""Sampling: answers drawn at random from a model's distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from closer_look.models.tokens import end_tokens

if TYPE_CHECKING:
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
