"""Tokenisation: prompts and answers to token ids, and left-padded batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from closer_look.errors import InputError, quote
from closer_look.models.prompts import answer_start, render_prompts, turn_end

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from closer_look.models.language_model import LanguageModel

Batch = dict[str, "Tensor | list[int] | list[str]"]
"""Inputs of a forward pass by name: tensors, and lists with one number or name per row."""

IGNORED = -100


class Tokens(NamedTuple):
    """Token ids of one row; the answer ends as the chat template ends a turn."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        """Count the tokens of prompt and answer together."""
        return len(self.prompt) + len(self.answer)

    def all_as_answer(self) -> Tokens:
        """Return the same tokens with a label at every position but the first."""
        return Tokens(self.prompt[:1], self.prompt[1:] + self.answer)

    def one_later(self) -> Tokens:
        """Return a row whose predictors are this row's answer tokens, not those before them.

        The last label stands for nothing; there are as many as before.
        """
        return Tokens(self.prompt + self.answer[:1], self.answer[1:] + self.answer[-1:])


def longest_text(rows: Sequence[Mapping[str, object]]) -> int:
    """Return the number of tokens of the longest text that rows have among their values."""
    values = (value for row in rows for value in row.values())
    return max((len(one) for one in values if isinstance(one, Tokens)), default=0)


def encode_prompts(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[list[int]]:
    """Tokenise the prompts of questions; the chat template writes the special tokens."""
    return _tokenise(tokenizer, render_prompts(tokenizer, questions))


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokenise texts that may start with a beginning-of-sequence token written as text.

    The token is cut off, so the rest is tokenised as the start of a text. SentencePiece adds a
    space before the first word of a text, but not after a written ``<s>``.
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
    """Tokenise prompts and answers so that no token spans both.

    Prompt and answer are tokenised as one text, as the model saw them in training; the answer is
    what follows the prompt's tokens. If a token would span both, the answer is tokenised alone.
    Equal pairs are tokenised once.
    """
    pairs = list(zip(questions, answers, strict=True))
    distinct = list(dict.fromkeys(pairs))
    prompts = render_prompts(tokenizer, [question for question, _ in distinct])
    start, end = answer_start(tokenizer), turn_end(tokenizer)
    texts = [
        prompt + start + answer + end for prompt, (_, answer) in zip(prompts, distinct, strict=True)
    ]
    rows = {}
    for pair, prompt, whole in zip(
        distinct, _tokenise(tokenizer, prompts), _tokenise(tokenizer, texts), strict=True
    ):
        answer = whole[len(prompt) :]
        if whole[: len(prompt)] != prompt:
            answer = tokenizer(start + pair[1] + end, add_special_tokens=False)["input_ids"]
        rows[pair] = Tokens(prompt, answer)
    return [rows[pair] for pair in pairs]


def split_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Return the text of each token; joined, they are the text of all.

    Some tokens hold only a part of a character: the last of them gets it, the others get "".
    """
    pieces, before = [], ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False)
        is_part = text.endswith("\ufffd") and end < len(ids)
        pieces.append("" if is_part else text[len(before) :])
        before = before if is_part else text
    return pieces


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token that ends an answer."""
    return tokenizer(turn_end(tokenizer), add_special_tokens=False)["input_ids"][-1]


def end_tokens(language_model: LanguageModel) -> list[int]:
    """List the tokens at which generation stops; the first ends an answer as it was trained.

    Chat models may have more than the end of a turn and end-of-sequence.
    """
    model, tokenizer = language_model
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    found = dict.fromkeys([end_token(tokenizer), tokenizer.eos_token_id, *own])
    return [token for token in found if token is not None]


def check_lengths(rows: Sequence[Tokens], row_ids: Sequence[str], context_length: int) -> None:
    """Refuse rows that do not fit into the model's context.

    Raises:
        InputError: a row is too long; the message names the first.
    """
    for row_id, row in zip(row_ids, rows, strict=True):
        if len(row) > context_length:
            raise InputError(
                f"row {quote(row_id)}: question and answer take {len(row)} tokens, "
                f"the model's context holds {context_length}"
            )


def check_room(prompts: Sequence[Sequence[int]], questions: Sequence[str], max_length: int) -> None:
    """Refuse prompts that leave no room for an answer.

    Raises:
        InputError: a prompt takes ``max_length`` tokens or more; the message names the first.
    """
    for prompt, question in zip(prompts, questions, strict=True):
        if len(prompt) >= max_length:
            raise InputError(
                f"parameter generation.max_length: {max_length} leaves no room for an answer to "
                f"{quote(question)}, whose prompt takes {len(prompt)} tokens; raise it"
            )


def pad_left(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    """Stack sequences of token ids, padded on the left: (B, longest)."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(sequence) for sequence in sequences],
        batch_first=True,
        padding_value=value,
        padding_side="left",
    )


def prompt_batch(prompts: Sequence[Sequence[int]]) -> Batch:
    """Pad prompts on the left into model inputs.

    The padding id is 0: the mask hides those positions, so any id would do.

    Returns:
        input_ids, attention_mask and position_ids, each (B, longest).
    """
    input_ids = pad_left(prompts, 0)
    attention_mask = pad_left([[1] * len(prompt) for prompt in prompts], 0)
    position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)  # 0 at the first real token
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": position_ids,
    }
