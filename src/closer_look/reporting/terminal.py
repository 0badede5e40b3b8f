"""What the terminal shows at the end of a run: the table of results."""

from __future__ import annotations

import pandas as pd

from closer_look.reporting.results import are_means, best_first

MOST_LINES = 24
"""Of a longer table only the last task is shown, the best methods first."""

RESIDUAL = (
    "residual is the most that an attack got back, as a share of what was known before: 0 is "
    "nothing, 1 all of it"
)

HEADS = {
    "method": "method",
    "after_task": "task",
    "model_utility": "MU",
    "forget_efficacy": "FE",
    "forget_efficacy_of_tasks_so_far": "FE so far",
    "residual_knowledge": "residual",
    "residual_attack": "got back by",
    "forget_quality": "FQ",
}


WITH_SEEDS = ("model_utility", "forget_efficacy", "forget_efficacy_of_tasks_so_far")
"""Numbers that have an interval over seeds."""


def result_lines(table: pd.DataFrame) -> list[str]:
    """Write what MU and FE hold, what residual means if there is any, and the table of results.

    Args:
        table: see ``results.summary_table``.
    """
    held = [
        f"{name} holds {terms or 'nothing'}"
        for name, column in (("MU", "model_utility_terms"), ("FE", "forget_efficacy_terms"))
        for terms in table[column].unique()
    ]
    if "residual_knowledge" in table:
        held.append(RESIDUAL)
    heads = {}
    for column, head in HEADS.items():
        if column in table:
            heads[column] = head
        if column in WITH_SEEDS and are_means(table):
            half = (table[f"{column}_seed_high"] - table[f"{column}_seed_low"]) / 2
            table = table.assign(**{f"{column}_half": half})
            heads[f"{column}_half"] = "±"
    if are_means(table):
        n_seeds = table["n_seeds"].max()
        held.append(f"Means over {n_seeds} seeds; ± is half of a 95 % interval over seeds")
    if table["forget_quality"].isna().all():
        del heads["forget_quality"]
    shown = table if len(table) <= MOST_LINES else _last_tasks(table)
    # A p-value may be very small: show its significant digits.
    text = (
        shown[list(heads)]
        .rename(columns=heads)
        .to_string(index=False, float_format="%.3f", na_rep="", formatters={"FQ": "{:.2g}".format})
    )
    where = " after the last task" if len(shown) < len(table) else ""
    return [*held, f"Result{where}\n{text}"]


def _last_tasks(table: pd.DataFrame) -> pd.DataFrame:
    places = {name: place for place, name in enumerate(best_first(table), start=1)}
    last = table.drop_duplicates("method", keep="last")
    order = last["method"].map(places).fillna(0)  # models to compare with come first
    return last.assign(order=order).sort_values("order", kind="stable")
