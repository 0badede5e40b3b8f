"""Nodes of the inspection."""

from __future__ import annotations

from typing import Any

import pandas as pd

from closer_look.data.planning import plan_of_task
from closer_look.parameters.base import depends_on
from closer_look.parameters.experiment import ForgetSetParameters
from closer_look.parameters.groups import as_model
from closer_look.parameters.models import BaseModelParameters, PromptParameters

N_ROWS = 3


@depends_on(forget_set=("pairing", "seed"))
def show_rows(
    questions: pd.DataFrame,
    refusals: list[str],
    base_model: BaseModelParameters,
    prompt: PromptParameters,
    forget_set: ForgetSetParameters,
    seed: int | None = None,
    **methods: dict[str, Any],
) -> str:
    """Show the first rows of the first task's plan as the methods' losses would read them.

    Of several seeds, it is the plan of the first.
    """
    from rich.console import Console

    from closer_look.reporting.inspection import as_text, base_tokenizer, read_rows, render_page

    tokenizer = base_tokenizer(base_model, prompt, questions, refusals)
    chosen = forget_set.model_dump(include={"pairing", "seed"})
    if seed is not None:
        chosen["seed"] = seed
    plan = plan_of_task(questions, refusals, 1, epochs=1, **chosen).head(N_ROWS)
    checked = [as_model(f"methods.{name}", values) for name, values in methods.items()]
    rows = read_rows(tokenizer, plan, questions, checked)
    Console(soft_wrap=True).print(as_text(rows))
    return render_page(rows, tokenizer, base_model, prompt)
