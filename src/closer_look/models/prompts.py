"""Prompts: the tokenizer's chat template turns a question into one.

Transformers saves the template with the tokenizer, so a model keeps its prompt in every folder,
notebook and tool. Models without a template get one of ``TEMPLATES``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from closer_look.errors import InputError, first_line, quote

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = {
    # Jinja drops a line break at the end of a template unless it is an expression.
    "plain": "{{ bos_token }}Question: {{ messages[0]['content'] }}\nAnswer:{{ '\\n' }}",
    # As published with TOFU (arXiv 2401.06121) for Llama-2-7b-chat.
    "llama2": "{{ bos_token }}[INST] {{ messages[0]['content'] }} [/INST]",
}


def set_prompt(tokenizer: PreTrainedTokenizerBase, style: str) -> None:
    """Set the tokenizer's chat template.

    Args:
        tokenizer: changed in place.
        style: a key of ``TEMPLATES``, or "chat_template" to keep the tokenizer's own.

    Raises:
        InputError: the tokenizer has no template of its own to keep, or that template fails.
    """
    if style in TEMPLATES:
        tokenizer.chat_template = TEMPLATES[style]
    elif tokenizer.chat_template is None:
        raise InputError(
            f"prompt: 'chat_template' is asked for, but the tokenizer of "
            f"'{tokenizer.name_or_path}' has none; use one of {', '.join(TEMPLATES)}"
        )
    else:
        render_prompts(tokenizer, ["Who?"])


def render_prompts(tokenizer: PreTrainedTokenizerBase, questions: Iterable[str]) -> list[str]:
    """Render the prompt of each question, up to where the answer begins.

    Raises:
        InputError: the chat template fails on a question; the message names the first.
    """
    return [_render(tokenizer, question) for question in questions]


def _render(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    message = {"role": "user", "content": question}
    try:
        return tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program (sandboxed) and may raise anything
        raise InputError(
            f"{tokenizer.name_or_path}: its chat template fails on {quote(question)} "
            f"({first_line(error)}); use one of {', '.join(TEMPLATES)}"
        ) from None


def check_texts(
    tokenizer: PreTrainedTokenizerBase, names: Iterable[str], texts: Iterable[str]
) -> None:
    """Refuse texts that the model would read as part of the prompt or as the end of an answer.

    Args:
        tokenizer: its chat template is set.
        names: name of each text in error messages, such as ``row 'one'``.
        texts: questions, answers, refusals.

    Raises:
        InputError: a text contains a special token of the tokenizer, or what the prompt has after
            the question; the message names the first.
    """
    before, markers = _surroundings(tokenizer)
    for name, text in zip(names, texts, strict=True):
        for marker in markers:
            # The end of the prompt and the start of the text may form a marker together.
            if marker in before[max(0, len(before) - len(marker) + 1) :] + text:
                raise InputError(
                    f"{name}: {marker!r} in its text would be read as part of the prompt; remove it"
                )


def _surroundings(tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[str]]:
    """Return the prompt before a question, and the strings that end it or begin an answer."""
    tokens = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in tokens if token.special}
    question = "\ue000"  # a private-use character: no real text holds it
    before, _, after = render_prompts(tokenizer, [question])[0].partition(question)
    lines = re.findall(r"\n[^\n]*\S", after)  # such as the line that starts the assistant's turn
    return before, sorted({*special, after.strip(" ").rstrip(), *lines} - {""})
