"""From text to tensors: prompt and answer tokens, batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from closer_look.errors import InputError, quote
from closer_look.models.prompts import render_prompts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

Batch = dict[str, "Tensor | list[int] | list[str]"]
"""What goes through a model, by name: tensors, and numbers and names of the rows."""

IGNORED = -100


class Tokens(NamedTuple):
    """Token ids of one row; the answer's end with end-of-sequence."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        """Number of tokens of prompt and answer together."""
        return len(self.prompt) + len(self.answer)

    def all_as_answer(self) -> Tokens:
        """The same tokens, with a label at every position but the first."""
        return Tokens(self.prompt[:1], self.prompt[1:] + self.answer)


def encode_prompts(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[list[int]]:
    """Tokenise the prompts of the questions; the template brings its own special tokens."""
    return _tokenise(tokenizer, render_prompts(tokenizer, questions))


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokenise texts that may start with a written beginning-of-sequence.

    What follows it is tokenised as the start of a text, as SentencePiece models were trained; after
    a written ``<s>`` they would miss the space that they put before the first word.
    """
    bos = tokenizer.bos_token or ""
    bare = [text.removeprefix(bos) for text in texts]
    ids = tokenizer(bare, add_special_tokens=False)["input_ids"] if bare else []
    return [
        row if text == rest else [tokenizer.bos_token_id, *row]
        for text, rest, row in zip(texts, bare, ids, strict=True)
    ]


def encode(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], answers: Sequence[str]
) -> list[Tokens]:
    """Tokenise prompts and answers, each pair once, so that no token straddles the border.

    An answer is what follows the prompt's tokens when both are tokenised as one text, as they were
    in training; where a token would straddle the border, the answer is tokenised by itself.
    """
    pairs = list(zip(questions, answers, strict=True))
    distinct = list(dict.fromkeys(pairs))
    prompts = render_prompts(tokenizer, [question for question, _ in distinct])
    texts = [prompt + answer for prompt, (_, answer) in zip(prompts, distinct, strict=True)]
    rows = {}
    for pair, prompt, whole in zip(
        distinct, _tokenise(tokenizer, prompts), _tokenise(tokenizer, texts), strict=True
    ):
        answer = whole[len(prompt) :]
        if whole[: len(prompt)] != prompt or not answer:
            answer = tokenizer(pair[1], add_special_tokens=False)["input_ids"]
        rows[pair] = Tokens(prompt, [*answer, tokenizer.eos_token_id])
    return [rows[pair] for pair in pairs]


def check_lengths(rows: Sequence[Tokens], row_ids: Sequence[str], context_length: int) -> None:
    """Refuse rows that do not fit into the model's context.

    Raises:
        InputError: naming the first row that is too long.
    """
    for row_id, row in zip(row_ids, rows, strict=True):
        if len(row) > context_length:
            raise InputError(
                f"row {quote(row_id)}: question and answer take {len(row)} tokens, "
                f"the model's context holds {context_length}"
            )


def pad_left(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    """Stack sequences of token ids that end together, (B, longest)."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(sequence) for sequence in sequences],
        batch_first=True,
        padding_value=value,
        padding_side="left",
    )


def prompt_batch(prompts: Sequence[Sequence[int]]) -> Batch:
    """Left-padded model inputs; masked positions never count, so the padding id is 0.

    Returns:
        input_ids, attention_mask and position_ids, each (B, longest).
    """
    input_ids = pad_left(prompts, 0)
    attention_mask = pad_left([[1] * len(prompt) for prompt in prompts], 0)
    position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": position_ids,
    }
