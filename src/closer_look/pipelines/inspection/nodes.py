"""Nodes of the inspection."""

from __future__ import annotations

from typing import Any

import pandas as pd

from closer_look.data.planning import plan_of_task
from closer_look.errors import InputError
from closer_look.parameters.base import depends_on
from closer_look.parameters.experiment import ForgetSetParameters
from closer_look.parameters.models import BaseModelParameters, PromptParameters
from closer_look.parameters.training import MethodParameters

N_ROWS = 3


@depends_on(forget_set=("pairing", "seed"))
def show_rows(
    questions: pd.DataFrame,
    refusals: list[str],
    base_model: BaseModelParameters,
    prompt: PromptParameters,
    forget_set: ForgetSetParameters,
    **methods: dict[str, Any],
) -> str:
    """Show the first rows of the first task's plan as the methods' losses would read them."""
    from rich.console import Console

    from closer_look.reporting.inspection import as_text, base_tokenizer, read_rows, render_page

    tokenizer = base_tokenizer(base_model, prompt, questions, refusals)
    plan = plan_of_task(questions, refusals, 1, forget_set, epochs=1).head(N_ROWS)
    checked = [_check(name, values) for name, values in methods.items()]
    rows = read_rows(tokenizer, plan, questions, checked)
    Console(soft_wrap=True).print(as_text(rows))
    return render_page(rows, tokenizer, base_model, prompt)


def _check(name: str, method: dict[str, Any]) -> MethodParameters:
    """Check a method as Kedro checks one that is an argument of a node by itself."""
    try:
        return MethodParameters.model_validate(method)
    except ValueError as error:
        raise InputError(f"parameter methods.{name}.{error}") from None
