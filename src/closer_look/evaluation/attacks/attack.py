"""An attack and all that is known of it, in one record; what it is given, and how it asks.

An attack is a function of a model and of the rows to forget. Training stopped at what the plain
question brings to light; an attack looks for what is left below it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from closer_look.models.language_model import LanguageModel
from closer_look.parameters.evaluation import GenerationParameters, ScoringParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.plugins import check_hyperparameters, is_dotted_path, load_object

PLAIN_LABEL, PLAIN_SENTENCE = "Plain question", "No attack: the question as it was trained."

PROVIDED = ("model", "rows", "context", "retain_only_model", "target_model")
"""Parameters of an attack that the pipeline provides; all others are hyperparameters."""


def _asks_the_question(text: str) -> str:
    if "{question}" not in text:
        raise ValueError("{question} must be part of it")
    return text


Framing = Annotated[str, AfterValidator(_asks_the_question)]
"""A text in which ``{question}`` stands for a question."""


@dataclass(frozen=True)
class AttackContext:
    """What attacks know of the run.

    Attributes:
        questions: the run's whole questions table.
        unlearning: settings of the run's unlearning, whose optimiser an attacker may use, too.
        generation: settings of greedy decoding.
        scoring: settings of scoring.
        seed: the only source of an attack's randomness.
    """

    questions: pd.DataFrame
    unlearning: UnlearningParameters
    generation: GenerationParameters
    scoring: ScoringParameters
    seed: int


class Attack(NamedTuple):
    """An attack and the facts that checks, the report and the documentation read."""

    function: Callable[..., pd.DataFrame]
    """Of ``model``, ``rows`` (the rows to forget, as in the questions table) and ``context``, of
    ``retain_only_model`` (never trained on the rows) and ``target_model`` (before unlearning) if it
    has these parameters, and of hyperparameters, whose annotations hold their types and bounds.

    It gives the model back as it was, and returns lines with ``row_id``, ``setting`` (for a reader:
    "after 10 steps"; "" if there is one), ``question`` (as asked) and ``generated``. Of several
    lines of a row in a setting, the worst counts. Further columns it may have: ``given`` (the
    beginning of the answer, put into the model's mouth and no part of ``generated``), and
    ``gold_answer`` and ``key_fact`` where they are not the row's own. An internal attack returns
    ``recovered`` (0 to 1) in place of ``question`` and ``generated``."""
    label: str
    """A word or two, for tables and figures ("Relearning")."""
    sentence: str
    """What an attacker does, for a reader who has never heard of it."""
    internal: bool = False
    """Whether it reads inside the model instead of asking: what it gets back is then compared with
    what the same attack gets from the model before unlearning."""
    needs: str = ""
    """Column without which a row cannot be attacked; the attack is left out where no row has it."""

    @property
    def compared_with(self) -> tuple[str, ...]:
        """The models that it reads beside the one attacked, by the names of its parameters."""
        parameters = inspect.signature(self.function).parameters
        return tuple(one for one in ("target_model", "retain_only_model") if one in parameters)

    @property
    def needs_retain_only(self) -> bool:
        """Whether it compares with a model that was never trained on the rows."""
        return "retain_only_model" in self.compared_with

    def check(self, hyperparameters: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that the function does not take, by their type and bounds.

        Raises:
            ValueError: naming the first one, or a parameter of the function that has no value.
        """
        check_hyperparameters(self.function, hyperparameters, PROVIDED, "attack")

    def lacks(self, rows: pd.DataFrame) -> str:
        """Say why no row can be attacked; "" if one can."""
        if not self.needs:
            return ""
        is_there = [
            len(value) > 0 if isinstance(value, list | np.ndarray) else pd.notna(value)
            for value in rows.get(self.needs, ())
        ]
        return "" if any(is_there) else f"no row to forget has '{self.needs}'"


def table(*attacks: Attack) -> dict[str, Attack]:
    """Attacks by the names of their functions, which are those of their modules, too."""
    return {attack.function.__name__: attack for attack in attacks}


def find_attack(name: str, attacks: Mapping[str, Attack]) -> Attack:
    """Find an attack by its name in a table, or by its dotted path in a package of the user's own.

    Args:
        name: a key of ``attacks``, or ``package.module:function``, where the module holds such a
            function or an ``Attack``.
        attacks: ``ATTACKS``.

    Raises:
        ValueError: there is none.
    """
    if not is_dotted_path(name):
        if name not in attacks:
            raise ValueError(
                f"unknown attack '{name}', choose from {', '.join(attacks)}, or name one of your "
                f"own as package.module:function"
            )
        return attacks[name]
    found = load_object(name, "attack")
    if isinstance(found, Attack):
        return found
    if not inspect.isfunction(found):
        raise ValueError(f"attack '{name}' is no function")
    label = found.__name__.replace("_", " ").capitalize()
    return Attack(found, label, f"An attack of {found.__module__}.")


def ask(
    model: LanguageModel,
    questions: Sequence[str],
    context: AttackContext,
    plain_questions: Sequence[str] | None = None,
    openings: Sequence[Sequence[int]] | None = None,
    description: str = "Attacking",
    n_tokens: int | None = None,
) -> list[str]:
    """Ask a model by greedy decoding, as the evaluation does.

    Args:
        model: put into evaluation mode.
        questions: N questions.
        context: its ``generation`` bounds the length of an answer.
        plain_questions: N questions that these stand for; the answers get the room that they would
            have there, though a question be longer.
        openings: N beginnings of answers, as token ids, put into the model's mouth.
        description: label of the progress bar.
        n_tokens: largest number of tokens of an answer, if that is not all that there is room for.

    Returns:
        N answers, which hold their openings.
    """
    from closer_look.inference.generation import generate
    from closer_look.models.instruction import instruction_length
    from closer_look.models.tokens import encode_prompts

    room = context.generation.max_length + instruction_length(model.tokenizer)
    if plain_questions is not None:
        asked, plain = (
            encode_prompts(model.tokenizer, texts) for texts in (questions, plain_questions)
        )
        longer = (len(one) - len(other) for one, other in zip(asked, plain, strict=True))
        room += max(0, *longer)
    answers = generate(
        model,
        questions,
        room,
        context.generation.batch_size,
        openings,
        description=description,
        n_tokens=n_tokens,
    )
    return answers["generated"].tolist()


def room_for_answers(model: LanguageModel, rows: pd.DataFrame, context: AttackContext) -> int:
    """Return the tokens that an answer may take where many are asked for.

    It is half as many again as the longest true answer takes: a broken model goes on and on, and
    whoever looks for the fact does not read on.
    """
    from closer_look.models.tokens import encode

    encoded = encode(model.tokenizer, list(rows["question"]), list(rows["gold_answer"]))
    left = context.generation.max_length - max(len(row.prompt) for row in encoded)
    return max(1, min(left, 3 * max(len(row.answer) for row in encoded) // 2))
