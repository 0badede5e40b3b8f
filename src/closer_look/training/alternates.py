"""Alternate answers to forget questions, made by the target model itself (arXiv 2409.13474)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from closer_look.data.questions import CONTROL_CHARACTER
from closer_look.errors import InputError, quote
from closer_look.inference.sampling import sample
from closer_look.models.prompts import check_texts
from closer_look.models.tokens import encode_prompts
from closer_look.system.progress import progress_bar

if TYPE_CHECKING:
    from closer_look.models.language_model import LanguageModel
    from closer_look.parameters.methods import AlternatesParameters

ATTEMPTS = 8
IN_PROMPT = re.compile(r"\{(question|answer)\}")
HOTTER = 1.5  # factor of the temperature from one attempt to the next


def make_alternates(
    language_model: LanguageModel,
    rows: pd.DataFrame,
    parameters: AlternatesParameters,
    max_length: int,
    seed: int,
) -> pd.DataFrame:
    """Sample alternate answers.

    A model that knows an answer by heart gives it again and again. So whatever is no alternate is
    sampled again, at a higher temperature.

    Args:
        language_model: the model before unlearning.
        rows: ``row_id``, ``question`` and ``answer`` of the rows to forget.
        parameters: how many, and what the model is asked.
        max_length: largest number of tokens of prompt and answer together.
        seed: of the sampling.

    Returns:
        ``row_id``, ``number`` (from 1), ``alternate`` and the ``temperature`` that gave it.

    Raises:
        InputError: a row gets no other answer than its own, or its prompt leaves no room for one;
            the message names the first.
    """
    table = []
    with progress_bar(len(rows), "Sampling alternates", "row") as progress:
        for place, row in enumerate(rows.itertuples()):
            asked = IN_PROMPT.sub(lambda found, row=row: getattr(row, found[1]), parameters.prompt)
            (prompt,) = encode_prompts(language_model.tokenizer, [asked])
            if len(prompt) >= max_length:
                raise InputError(
                    f"row {quote(row.row_id)}: the prompt of 'alternates' takes {len(prompt)} "
                    f"tokens, and generation.max_length is {max_length}; raise it"
                )
            found: list[tuple[str, float]] = []
            for attempt in range(ATTEMPTS):
                temperature = parameters.temperature * HOTTER**attempt
                texts = sample(
                    language_model,
                    prompt,
                    parameters.per_row - len(found),
                    max_length=max_length,
                    temperature=temperature,
                    seed=int(np.random.default_rng([seed, place, attempt]).integers(2**63)),
                )
                cleaned = [CONTROL_CHARACTER.sub("", text).strip() for text in texts]
                new = [text for text in cleaned if _is_alternate(language_model, text, row.answer)]
                found += [(text, temperature) for text in new]
                if len(found) == parameters.per_row:
                    break
            else:
                raise InputError(
                    f"row {quote(row.row_id)}: the model gives no other answer than the true one, "
                    f"even at temperature {temperature:.0f}; raise the temperature of 'alternates'"
                )
            table += [(row.row_id, n, *one) for n, one in enumerate(found, start=1)]
            progress.update()
    return pd.DataFrame(table, columns=["row_id", "number", "alternate", "temperature"])


def _is_alternate(language_model: LanguageModel, text: str, answer: str) -> bool:
    try:
        check_texts(language_model.tokenizer, [""], [text])
    except InputError:  # it would be read as part of the prompt
        return False
    return bool(text) and text.casefold() != answer.strip().casefold()


def with_alternates(plan: pd.DataFrame, alternates: pd.DataFrame) -> pd.DataFrame:
    """Give each row of a plan an ``alternate``: the epochs take a row's alternates in turn.

    Args:
        plan: ``epoch`` and ``forget_row_id``.
        alternates: see ``make_alternates``.
    """
    texts = alternates.set_index(["row_id", "number"])["alternate"]
    numbers = (plan["epoch"] - 1) % alternates["number"].max() + 1
    keys = zip(plan["forget_row_id"], numbers, strict=True)
    return plan.assign(alternate=[texts[key] for key in keys])
