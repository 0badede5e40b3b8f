"""How a question becomes a prompt: always the tokenizer's chat template.

Transformers saves the chat template with the tokenizer, so a model keeps its prompt in every
folder, notebook and tool. Models without one get one of ``TEMPLATES``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from closer_look.errors import InputError, first_line, quote

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = {
    # Jinja drops a line break at the end of a template, unless it is written as an expression.
    "plain": "{{ bos_token }}Question: {{ messages[0]['content'] }}\nAnswer:{{ '\\n' }}",
    # As published with TOFU (arXiv 2401.06121) for Llama-2-7b-chat.
    "llama2": "{{ bos_token }}[INST] {{ messages[0]['content'] }} [/INST]",
}


def set_prompt(tokenizer: PreTrainedTokenizerBase, style: str) -> None:
    """Give the tokenizer a prompt.

    Args:
        tokenizer: changed in place.
        style: a key of ``TEMPLATES``, or "chat_template" for the one the tokenizer came with.

    Raises:
        InputError: the tokenizer has no chat template where its own is asked for, or its own fails.
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
    """Write each question into the prompt, up to where the answer begins.

    Raises:
        InputError: naming the first question of which the chat template makes no prompt.
    """
    return [_render(tokenizer, question) for question in questions]


def _render(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    message = {"role": "user", "content": question}
    try:
        return tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program, and runs shut off from Python's parts
        raise InputError(
            f"{tokenizer.name_or_path}: its chat template makes no prompt of {quote(question)} "
            f"({first_line(error)}); use one of {', '.join(TEMPLATES)}"
        ) from None


def check_texts(
    tokenizer: PreTrainedTokenizerBase, names: Iterable[str], texts: Iterable[str]
) -> None:
    """Refuse texts that would be read as part of the prompt, or as the end of an answer.

    Args:
        tokenizer: with its prompt.
        names: what to call each text in an error, such as ``row 'one'``.
        texts: questions, answers, refusals.

    Raises:
        InputError: naming the first text that holds a special token of the tokenizer as it is
            written, or what the prompt has after the question.
    """
    before, markers = _surroundings(tokenizer)
    for name, text in zip(names, texts, strict=True):
        for marker in markers:
            # With what stands before a question, its first characters could complete a marker.
            if marker in before[max(0, len(before) - len(marker) + 1) :] + text:
                raise InputError(
                    f"{name}: {marker!r} in its text would be read as part of the prompt"
                )


def _surroundings(tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[str]]:
    """What the prompt has before a question, and texts that would end it or begin an answer."""
    tokens = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in tokens if token.special}
    question = "\ue000"  # of no text
    before, _, after = render_prompts(tokenizer, [question])[0].partition(question)
    lines = re.findall(r"\n[^\n]*\S", after)  # such as that which hands over to the assistant
    return before, sorted({*special, after.strip(" ").rstrip(), *lines} - {""})
