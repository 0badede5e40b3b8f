"""Checks before training: do the texts fit the model, and do the adapters find their layers?"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import torch
from accelerate.utils.memory import should_reduce_batch_size

from closer_look.errors import InputError, first_line, quote
from closer_look.models.adapters import with_adapter
from closer_look.models.language_model import LanguageModel
from closer_look.models.prompts import check_texts, render_prompts
from closer_look.models.rehearsal import MEMORY, SECONDS, in_plain_words
from closer_look.models.tokens import Tokens, check_lengths, check_room, encode, encode_prompts
from closer_look.system.limits import LimitExceededError, within_limits

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from closer_look.parameters.training import LoraParameters

log = logging.getLogger(__name__)


def context_length(language_model: LanguageModel) -> int | None:
    """Return the number of tokens that the model can take, or None if there is no limit."""
    configuration = language_model.model.config.get_text_config()
    names = ("max_position_embeddings", "max_seq_len")  # the second is MPT's
    return next((getattr(configuration, n) for n in names if hasattr(configuration, n)), None)


def check_rows(language_model: LanguageModel, rows: pd.DataFrame) -> None:
    """Check that questions and answers hold no part of the prompt and fit into the context.

    Args:
        language_model: the model that will read them.
        rows: ``row_id``, ``question`` and ``text``.

    Raises:
        InputError: a row fails either check; the message names the first.
    """
    names = [f"row {quote(row_id)}" for row_id in rows["row_id"]]
    for column in ("question", "text"):
        check_texts(language_model.tokenizer, names, rows[column])
    encoded = _encode(language_model, list(rows["question"]), list(rows["text"]))
    longest = context_length(language_model)
    if longest is not None:
        check_lengths(encoded, rows["row_id"], longest)


def _encode(
    language_model: LanguageModel, questions: Sequence[str], texts: Sequence[str]
) -> list[Tokens]:
    """Tokenise rows in a copy of this process: an expression may take for ever on one."""
    tokenizer = language_model.tokenizer
    render_prompts(tokenizer, questions)  # here: what was rendered is kept
    seconds = SECONDS + sum(map(len, (*questions, *texts))) // 100_000
    try:
        return within_limits(
            partial(in_plain_words, lambda: encode(tokenizer, questions, texts)), seconds, MEMORY
        )
    except (LimitExceededError, ValueError) as error:
        raise InputError(
            f"{tokenizer.name_or_path}: its tokenizer fails on these rows ({error}); take another"
        ) from None


def check_refusals(
    language_model: LanguageModel, refusals: Sequence[str], questions: Sequence[str]
) -> None:
    """Check that refusals hold no part of the prompt and fit after the longest forget question.

    Args:
        language_model: the model that will learn them.
        refusals: refusal sentences.
        questions: the questions to forget.

    Raises:
        InputError: a refusal fails either check; the message names the first.
    """
    tokenizer = language_model.tokenizer
    check_texts(tokenizer, [f"refusal {n}" for n in range(1, len(refusals) + 1)], refusals)
    longest = context_length(language_model)
    if longest is None:
        return
    lengths = map(len, encode_prompts(tokenizer, questions))
    _, question = max(zip(lengths, questions, strict=True))
    encoded = _encode(language_model, [question] * len(refusals), refusals)
    for number, row in enumerate(encoded, start=1):
        if len(row) > longest:
            raise InputError(
                f"refusal {number}: with the longest question to forget it takes {len(row)} "
                f"tokens, the model's context holds {longest}"
            )


def check_adapters(language_model: LanguageModel, lora: LoraParameters | None) -> LanguageModel:
    """Check that LoRA adapters find their layers, and return the model without them.

    Raises:
        InputError: see ``with_adapter``; or the model fails with adapters, or passes one by.
    """
    if lora is None:
        return language_model
    adapted = with_adapter(language_model, lora).model.eval()
    fault = _fault_of_adapters(adapted, language_model.tokenizer("One, two.")["input_ids"])
    if fault:
        kind = type(adapted.get_base_model()).__name__
        raise InputError(f"parameter unlearning.lora.target_modules: {kind} {fault}; name others")
    model = adapted.unload()
    for weight in model.parameters():
        weight.requires_grad_(weight.is_floating_point())  # quantised ones cannot
    return LanguageModel(model, language_model.tokenizer)


def _fault_of_adapters(model: PeftModel, ids: Sequence[int]) -> str | None:
    """Say what is wrong with a model's adapters, if one fails or learns nothing."""
    try:
        text = torch.tensor([ids], device=model.device)
        model(input_ids=text, use_cache=False).logits.sum().backward()
    except (AttributeError, TypeError, RuntimeError) as error:  # it looks for a layer's own weight
        if should_reduce_batch_size(error):
            raise
        return f"fails with adapters on these layers ({first_line(error)})"
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    idle = [name for name, weight in trained.items() if weight.grad is None]
    return f"makes no use of adapters on {idle[0].partition('.lora_')[0]}" if idle else None


def check_model(language_model: LanguageModel) -> None:
    """Check that the model predicts a token from those before it, and knows all that it will read.

    A special token that stands in no prompt is never read: see ``check_texts``. The tokenizers of
    Gemma's text models have one for images, which these models have no embedding for.

    Raises:
        InputError: it has fewer embeddings than its tokenizer has such tokens, or later tokens
            change what it predicts.
    """
    model, tokenizer = language_model
    text = tokenizer("One, two.")["input_ids"]
    (row,) = encode(tokenizer, ["Who?"], ["She."])
    read = {*text, *row.prompt, *row.answer, tokenizer.eos_token_id, tokenizer.pad_token_id}
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    check_vocabulary(model, tokenizer, special - read)
    if not _is_causal(model, text):
        raise InputError(
            f"{tokenizer.name_or_path}: {type(model).__name__} is no causal language model; tokens "
            f"after an answer change what it predicts"
        )


def check_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, unread: Collection[int] = ()
) -> None:
    """Check that a model has an embedding for each token, but for those that it never reads.

    Raises:
        InputError: it has fewer.
    """
    n_embeddings = model.get_input_embeddings().weight.shape[0]
    n_tokens = max({*tokenizer.get_vocab().values()} - {*unread}) + 1
    if n_tokens > n_embeddings:
        raise InputError(
            f"{tokenizer.name_or_path}: its tokenizer knows {n_tokens} tokens, the model has "
            f"embeddings for {n_embeddings}; tokenizer and model are not of one kind"
        )


@torch.no_grad()
def _is_causal(model: PreTrainedModel, ids: Sequence[int]) -> bool:
    was_training = model.training
    model.eval()
    short, long = (
        model(input_ids=torch.tensor([ids[:n]], device=model.device), use_cache=False).logits[0]
        for n in (2, len(ids))
    )
    model.train(was_training)
    return torch.allclose(short, long[:2], rtol=1e-3, atol=1e-4 * long.abs().max().item())


def check_generation(language_model: LanguageModel, rows: pd.DataFrame, max_length: int) -> None:
    """Check that answers can be as long as ``max_length``; warn of gold answers that are longer.

    The model's answer is cut there, so that ROUGE cannot reach 1.

    Args:
        language_model: that is to answer.
        rows: those that it is asked: ``row_id``, ``question`` and ``text``, the gold answer.
        max_length: tokens of prompt and answer together.

    Raises:
        InputError: the model's context is shorter, or a prompt leaves no room for an answer.
    """
    longest = context_length(language_model)
    if longest is not None and max_length > longest:
        raise InputError(
            f"parameter generation.max_length: {max_length} is more than the model's context of "
            f"{longest} tokens"
        )
    encoded = encode(language_model.tokenizer, list(rows["question"]), list(rows["text"]))
    check_room([row.prompt for row in encoded], rows["question"], max_length)
    lengths = pd.Series([len(row) for row in encoded], rows["row_id"])
    too_long = lengths[lengths > max_length]
    if len(too_long):
        log.warning(
            "%d gold answers do not fit into generation.max_length, such as that of row %s: no "
            "answer to them can be right; the longest takes %d tokens with its prompt",
            *(len(too_long), quote(too_long.index[0]), lengths.max()),
        )
