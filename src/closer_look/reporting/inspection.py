"""What a run would train, token by token: the rows as the losses of its methods read them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from closer_look.models.language_model import load_tokenizer
from closer_look.models.prompts import set_prompt, settled_arguments, turn_end
from closer_look.models.small_llama import small_tokenizer, texts_to_learn
from closer_look.models.tokens import Tokens, end_token, split_text
from closer_look.reporting.pages import page_template
from closer_look.training.objective import ANSWER, MISMATCH, REFUSAL, SIDES, Objective, texts_of

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text
    from transformers import PreTrainedTokenizerBase

    from closer_look.parameters.methods import MethodParameters
    from closer_look.parameters.models import BaseModelParameters, PromptParameters

TITLES = {"forget": "To forget", "retain": "To keep"}
WHAT = {ANSWER: "its answer", REFUSAL: "a refusal", MISMATCH: "the answer of its partner"}
ALSO = {"answer": "", "question_and_answer": ", and all before it"}
VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥"}
STYLES = {"prompt": "bright_black", "label": "green", "end": "bold magenta"}  # in a terminal
NO_TEXT = "…"  # for a token that ends inside a character


class Token(NamedTuple):
    """A token: its text with everything visible, its id, and what the losses do with it."""

    text: str
    id: int
    kind: Literal["prompt", "label", "end"]
    """Only read; to be predicted; to be predicted as the end of the turn."""


class Reading(NamedTuple):
    """What some losses read of a row: its question, and a text after it."""

    what: str
    readers: list[str]
    """Labels of the methods."""
    tokens: list[Token]

    def of_kind(self, *kinds: str) -> list[Token]:
        """Return the tokens of these kinds."""
        return [token for token in self.tokens if token.kind in kinds]


class Row(NamedTuple):
    """A row of the plan, on one side."""

    title: str
    row_id: str
    question: str
    readings: list[Reading]


def base_tokenizer(
    base_model: BaseModelParameters,
    prompt: PromptParameters,
    questions: pd.DataFrame,
    refusals: Iterable[str],
) -> PreTrainedTokenizerBase:
    """Load the base model's tokenizer, or make that of a small Llama, with the run's prompt.

    Raises:
        InputError: see ``load_language_model``.
    """
    if base_model.pretrained:
        return load_tokenizer(base_model.pretrained, base_model.prompt, prompt)
    tokenizer = small_tokenizer(texts_to_learn(questions, refusals), base_model.small_llama)
    set_prompt(tokenizer, base_model.prompt, prompt)
    return tokenizer


def read_rows(
    tokenizer: PreTrainedTokenizerBase,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    methods: Collection[MethodParameters],
) -> list[Row]:
    """Tokenise the rows of a plan as the losses of methods do.

    Args:
        tokenizer: the base model's, with the run's prompt.
        plan: ``forget_row_id``, ``retain_row_id`` and ``refusal`` of each row.
        questions: the questions table.
        methods: what losses read twice in the same way is listed once.

    Returns:
        For each row of the plan the row to forget, then the one to keep.
    """
    readings: dict[tuple[str, str], tuple[list[str], list[Tokens]]] = {}
    given = {side: texts_of(side, plan, questions) for side in SIDES}
    for method in methods:
        for term in Objective(method).terms:
            for variant, encoded in term.encode(tokenizer, *given[term.side]).items():
                what = WHAT[variant] + ALSO[term.parameters.positions]
                readers, _ = readings.setdefault((term.side, what), ([], encoded))
                readers.append(method.label)
    rows = []
    for number in range(len(plan)):
        for side in SIDES:
            found = [
                Reading(what, readers, _tokens(tokenizer, encoded[number]))
                for (of_side, what), (readers, encoded) in readings.items()
                if of_side == side
            ]
            row_id = plan[f"{side}_row_id"].iloc[number]
            rows.append(Row(TITLES[side], row_id, given[side][0][number], found))
    return rows


def _tokens(tokenizer: PreTrainedTokenizerBase, row: Tokens) -> list[Token]:
    ids = row.prompt + row.answer
    kinds = ["prompt"] * len(row.prompt) + ["label"] * len(row.answer)
    if ids[-1] == end_token(tokenizer):
        kinds[-1] = "end"
    texts = map(visible, split_text(tokenizer, ids))
    return [Token(text or NO_TEXT, *rest) for text, *rest in zip(texts, ids, kinds, strict=True)]


def visible(text: str) -> str:
    """Write blanks, line breaks and characters without a shape so that a reader sees them."""
    return "".join(
        VISIBLE.get(character)
        or (f"⟨{ord(character):04X}⟩" if _has_no_shape(character) else character)
        for character in text
    )


def _has_no_shape(character: str) -> bool:
    return unicodedata.category(character)[0] in "CZ"


def as_text(rows: Sequence[Row]) -> Text:
    """Write the rows for a terminal: a line for each kind of token, with "|" between tokens.

    Texts of rows are no markup here, and hold no control characters.
    """
    from rich.text import Text

    lines = Text()
    for row in rows:
        lines.append(f"\n{row.title}: row {visible(row.row_id)}\n", "bold")
        for reading in row.readings:
            lines.append(f"  with {reading.what}, read by {', '.join(reading.readers)}: ")
            lines.append(f"{count(reading)}\n")
            for kind, style in STYLES.items():
                texts = [token.text for token in reading.of_kind(kind)]
                lines.append(f"    {kind:<7} ")
                lines.append("|".join(texts) or "(none)", style)
                lines.append("\n")
    return lines


def count(reading: Reading) -> str:
    """Count the tokens that are only read, and those that are trained."""
    n_prompt, n_labels = len(reading.of_kind("prompt")), len(reading.of_kind("label", "end"))
    return f"{n_prompt} of the prompt, {n_labels} labels"


def render_page(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    base_model: BaseModelParameters,
    prompt: PromptParameters,
) -> str:
    """Render the rows as a page of HTML that loads nothing and runs nothing."""
    return page_template("inspection.html.jinja", count=count).render(
        rows=rows,
        facts=describe_prompt(tokenizer, base_model, prompt),
        template=tokenizer.chat_template,
    )


def describe_prompt(
    tokenizer: PreTrainedTokenizerBase, base_model: BaseModelParameters, prompt: PromptParameters
) -> dict[str, str]:
    """Say what makes the prompts: name -> value, for the page."""
    arguments = settled_arguments(tokenizer.chat_template, prompt)
    if "strftime_now" in tokenizer.chat_template:
        arguments["today"] = prompt.date
    written = ", ".join(f"{name} = {value}" for name, value in arguments.items())
    return {
        "Model": base_model.pretrained or "a small Llama, with a tokenizer made from these rows",
        "Tokens": f"{len(tokenizer):,} in the vocabulary",
        "Prompt": base_model.prompt,
        "System message": prompt.system or "none by the run (prompt.system)",
        "Template arguments": written or "none",
        "The turn ends with": f"{visible(turn_end(tokenizer))} (token {end_token(tokenizer)})",
    }
