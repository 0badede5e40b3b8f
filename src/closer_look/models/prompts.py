"""Prompts: the model's own chat template writes the question, the answer and the answer's end.

The template renders one conversation: an optional system message, the user's question, the
assistant's answer. The prompt is what it writes before the answer, the end is what it writes after
it. What a run settles once (system message, template arguments, date) is written into the template,
which Transformers saves with the tokenizer: a model keeps its prompt in every folder and tool.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from closer_look.errors import InputError, first_line, quote
from closer_look.parameters.models import PromptParameters
from closer_look.system.limits import LimitExceededError, within_limits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\\n' }}{% endif %}"
_QUESTION = "(messages | selectattr('role', 'equalto', 'user') | first)['content']"
TEMPLATES = {
    # Jinja drops a line break at the end of a template unless it is an expression.
    "plain": f"{{{{ bos_token }}}}{_SYSTEM}Question: {{{{ {_QUESTION} }}}}\nAnswer:{{{{ '\\n' }}}}",
    # As published with TOFU (arXiv 2401.06121) for Llama-2-7b-chat.
    "llama2": f"{{{{ bos_token }}}}[INST] {_SYSTEM}{{{{ {_QUESTION} }}}} [/INST]",
}

# Private-use characters, which no real text holds, in place of a question and an answer.
QUESTION, ANSWER = "\ue000", "\ue001"

SECONDS, MEMORY = 2, 2**29  # of processor time, and bytes, for a template
LONGEST_TEMPLATE, LONGEST_FRAME = 500_000, 100_000  # characters

# Around a run's settings in a template, which give way to those of the next run.
SETTLED, END_OF_SETTLED = "{#- settled by Closer Look -#}", "{#- end of what is settled -#}"
THINKING = ("enable_thinking", "thinking")
"""Arguments by which templates turn reasoning on; False writes the answer without it."""

_CONTENT_AS_PARTS = """
{%- set ns = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set ns.messages = ns.messages + [{"role": message["role"],
    "content": [{"type": "text", "text": message["content"]}]}] -%}
{%- endfor -%}
{%- set messages = ns.messages -%}
"""


log = logging.getLogger(__name__)
warn_once = cache(log.warning)


class _TooMuchError(InputError):
    """Raised for a template that takes too much time or memory, or writes too much."""


def set_prompt(
    tokenizer: PreTrainedTokenizerBase, style: str, settings: PromptParameters | None = None
) -> None:
    """Set the tokenizer's chat template, with a run's settings written into it.

    Args:
        tokenizer: changed in place.
        style: a key of ``TEMPLATES``, or "chat_template" to keep the tokenizer's own.
        settings: system message, arguments and date, in place of those of an earlier run; without
            them, a template that is settled already stays as it is.

    Raises:
        InputError: the tokenizer has no template of its own to keep, or with it no prompt holds
            the question.
    """
    if style in TEMPLATES:
        tokenizer.chat_template = TEMPLATES[style]
    elif tokenizer.chat_template is None:
        raise InputError(
            f"prompt: 'chat_template' is asked for, but the tokenizer of "
            f"'{tokenizer.name_or_path}' has none; use one of {', '.join(TEMPLATES)}"
        )
    if isinstance(tokenizer.chat_template, dict):  # several by name
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if settings is None and SETTLED in str(tokenizer.chat_template):
        return
    before, own = _without_settings(tokenizer.chat_template)
    settled = _settings(own, settings or PromptParameters())
    faults = []
    for written in (settled, settled + _CONTENT_AS_PARTS):
        part = f"{SETTLED}{written}{END_OF_SETTLED}" if written else ""
        tokenizer.chat_template = f"{before}{part}{own}"
        try:
            if QUESTION in render_prompts(tokenizer, [QUESTION])[0]:
                _warn_of_another_prompt(tokenizer)
                return
        except _TooMuchError:
            raise
        except InputError as error:
            faults.append(error)
    if len(faults) == 2:  # the template fails whatever it is given
        raise faults[0]
    raise InputError(
        f"{tokenizer.name_or_path}: its chat template makes a prompt without the question; "
        f"use one of {', '.join(TEMPLATES)}"
    )


def _warn_of_another_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    """Say so if the template writes one prompt before an answer, and asks for one with another."""
    if ANSWER not in _conversation(tokenizer):
        return
    (before,), (asking,) = render_prompts(tokenizer, [QUESTION]), _render(tokenizer, [(QUESTION,)])
    if not asking or asking.rstrip(" ") == before:
        return
    warn_once(
        "%s: its chat template ends the prompt with %r before a given answer, and with %r to ask "
        "for one; this run trains, scores and generates with the first, and other tools ask with "
        "the second, with which nothing is measured",
        *(tokenizer.name_or_path, *(text.rpartition(QUESTION)[2] for text in (before, asking))),
    )


def _without_settings(template: str) -> tuple[str, str]:
    """Cut out the settings of an earlier run; before them stands an instruction at most."""
    before, start, rest = template.partition(SETTLED)
    _, end, own = rest.partition(END_OF_SETTLED)
    return (before, own) if start and end else ("", template)


def settled_arguments(template: str, settings: PromptParameters) -> dict[str, object]:
    """Return the variables of a template that a run settles, and their values."""
    arguments = {name: False for name in THINKING if re.search(rf"\b{name}\b", template)}
    if re.search(r"\bdate_string\b", template):
        arguments["date_string"] = settings.date.strftime("%d %b %Y")
    return arguments | settings.template_arguments


def _settings(template: str, settings: PromptParameters) -> str:
    """Write a run's settings as the beginning of a template; "" if there is nothing to settle."""
    written = "".join(
        f"{{%- set {name} = {_literal(value)} -%}}"
        for name, value in settled_arguments(template, settings).items()
    )
    if "strftime_now" in template:
        formats = re.findall(r"strftime_now\(\s*([\"'])(.*?)\1\s*\)", template)
        dates = {form: settings.date.strftime(form) for _, form in formats}
        written += (
            f"{{%- macro strftime_now(format) -%}}{{{{ {json.dumps(dates)}[format] }}}}"
            f"{{%- endmacro -%}}"
        )
    if settings.system is not None:
        written += system_message(settings.system)
    return written


def system_message(text: str) -> str:
    """Write a system message, as the beginning of a template; it comes first in one that is there.

    Most templates take no second system message.
    """
    return (
        f"{{%- set settled_system = {_literal(text)} -%}}"
        "{%- if messages[0]['role'] == 'system' and messages[0]['content'] is string -%}"
        "{%- set settled_system = settled_system + '\\n\\n' + messages[0]['content'] -%}"
        "{%- set messages = messages[1:] -%}"
        "{%- endif -%}"
        "{%- set messages = [{'role': 'system', 'content': settled_system}] + messages -%}"
    )


def _literal(value: object) -> str:
    # As Unicode: Jinja reads the escape of a character beyond 16 bits as two half ones.
    return str(value).lower() if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def render_prompts(tokenizer: PreTrainedTokenizerBase, questions: Iterable[str]) -> list[str]:
    """Render the prompt of each question: all that the template writes before the answer.

    Spaces at its end are left to the answer, with whose first word they make one token.

    Raises:
        InputError: the chat template fails on a question, and the message names the first; or it
            takes too much time or memory.
    """
    questions = list(questions)
    prompts: list[str | None] = [None] * len(questions)
    if ANSWER in _conversation(tokenizer):
        whole = _render(tokenizer, [(question, ANSWER) for question in questions])
        prompts = [text.partition(ANSWER)[0] if ANSWER in text else None for text in whole]
    # Where the template shows no answer, the prompt is what it writes without one.
    without = [(q,) for q, prompt in zip(questions, prompts, strict=True) if prompt is None]
    rendered = iter(_render(tokenizer, without, must=True))
    return [(next(rendered) if text is None else text).rstrip(" ") for text in prompts]


def turn_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what the template writes after an answer, up to the first special token.

    That token ends the assistant's turn: it is trained, scored, and stops generation. Where the
    template writes none, it is the end-of-sequence token.
    """
    after = _conversation(tokenizer).partition(ANSWER)[2]
    tokens = [token.content for token in tokenizer.added_tokens_decoder.values()]
    places = [(after.index(token), token) for token in tokens if token and token in after]
    if not places:
        return tokenizer.eos_token
    place, token = min(places, key=lambda found: (found[0], -len(found[1])))
    return after[: place + len(token)]


def answer_start(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the spaces that the template writes between the prompt and an answer."""
    prompt, answer, _ = _conversation(tokenizer).partition(ANSWER)
    if not answer:
        (prompt,) = _render(tokenizer, [(QUESTION,)], must=True)
    return prompt[len(prompt.rstrip(" ")) :]


def _conversation(tokenizer: PreTrainedTokenizerBase) -> str:
    """Render a question and an answer; "" if the template knows no answers."""
    (text,) = _render(tokenizer, [(QUESTION, ANSWER)])
    return text


_rendered: dict[tuple[str, str], dict[tuple[str, ...], str]] = {}
"""Template and special tokens -> conversation -> its text."""


def _render(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[tuple[str, ...]], must: bool = False
) -> list[str]:
    """Render conversations: a question each, and an answer or a request for one.

    A template is a program of whoever made the model: it is sandboxed by Transformers, and here
    it has limits of time, memory and length.

    Args:
        tokenizer: its chat template is set.
        conversations: a question, or a question and an answer, each.
        must: the template must not fail; else its faults give empty texts.
    """
    template = tokenizer.chat_template
    known = _rendered.setdefault((template, str(tokenizer.special_tokens_map)), {})
    new = [
        one for one in dict.fromkeys(conversations) if one not in known or (must and not known[one])
    ]

    def render() -> list[str]:
        return [_apply(tokenizer, *one, must=must) for one in new]

    if new:
        is_ours = template in TEMPLATES.values()
        texts = render() if is_ours else _limited(tokenizer, render, len(new))
        known |= zip(new, texts, strict=True)
    return [known[one] for one in conversations]


def _limited(
    tokenizer: PreTrainedTokenizerBase, render: Callable[[], list[str]], n_texts: int
) -> list[str]:
    try:
        if len(tokenizer.chat_template) > LONGEST_TEMPLATE:
            raise LimitExceededError(f"has more than {LONGEST_TEMPLATE:,} characters")
        return within_limits(render, SECONDS + n_texts // 100, MEMORY)
    except LimitExceededError as error:
        raise _TooMuchError(
            f"{tokenizer.name_or_path}: its chat template {error}; use one of "
            f"{', '.join(TEMPLATES)}"
        ) from None


def _apply(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str | None = None, *, must: bool
) -> str:
    messages = [{"role": "user", "content": question}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=answer is None
        )
        text.encode()  # half a surrogate pair, which no tokenizer reads, fails here
    except MemoryError:
        raise
    except Exception as error:  # it may raise anything
        if not must:
            return ""
        raise InputError(
            f"{tokenizer.name_or_path}: its chat template fails on "
            f"{quote('Who?' if question == QUESTION else question)} "
            f"({first_line(error)}); use one of {', '.join(TEMPLATES)}"
        ) from None
    if len(text) > LONGEST_FRAME + len(question):
        raise LimitExceededError(f"writes {len(text):,} characters around a question")
    return text


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
            # The end of the prompt and the start of the text may form a marker together, also
            # where the template strips the text.
            end = before[max(0, len(before) - len(marker) + 1) :]
            if marker in end + text or marker in end + text.strip():
                raise InputError(
                    f"{name}: {marker!r} in its text would be read as part of the prompt; remove it"
                )


def _surroundings(tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[str]]:
    """Return the prompt before a question, and the strings that end it or begin an answer."""
    tokens = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in tokens if token.special}
    before, _, after = render_prompts(tokenizer, [QUESTION])[0].partition(QUESTION)
    lines = re.findall(r"\n[^\n]*\S", after)  # such as the line that starts the assistant's turn
    return before, sorted({*special, after.strip(" ").rstrip(), *lines} - {""})
