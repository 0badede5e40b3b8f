"""One HTML file that shows a run and links nothing outside itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    import plotly.graph_objects as go


def render_report(
    summary: pd.DataFrame,
    answers: pd.DataFrame,
    figures: Mapping[str, go.Figure],
    parameters: Mapping[str, object],
) -> str:
    """Fill the template; every text of a model or a row is escaped.

    Args:
        summary: what ``results.summary_table`` gives.
        answers: what ``results.answers_table`` gives.
        figures: name -> figure; plotly's JavaScript is put into the file once.
        parameters: of the run, shown as they are.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("closer_look", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = {
        name: figure.to_html(
            full_html=False,
            include_plotlyjs=position == 0,
            config={"responsive": True, "displaylogo": False},
        )
        for position, (name, figure) in enumerate(figures.items())
    }
    return environment.get_template("report.html.jinja").render(
        summary=summary, answers=answers, figures=parts, parameters=parameters
    )
