"""The figure of a benchmark: methods in the order of their score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from closer_look.reporting import drawing as draw

if TYPE_CHECKING:
    import plotly.graph_objects as go


def ranking(leaderboard: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Draw the score of each method, the best on top, with two intervals.

    The thick bar is over questions alone, the whisker over questions and seeds.

    Args:
        leaderboard: table from ``leaderboard.leaderboard``.
        labels: method -> label.
    """
    figure = draw.panels("Score", [""], width=340, height=60 + 26 * len(leaderboard), gap=150)
    styles = {labels[method]: style for method, style in draw.styles(labels).items()}
    names = [draw.as_text(label) for label in leaderboard["method"]]
    for name, row in zip(names, leaderboard.itertuples(), strict=True):
        style = styles[row.method]
        figure.add_scatter(
            x=[row.score_questions_low, row.score_questions_high],
            y=[name, name],
            mode="lines",
            line={"color": style.colour, "width": 7},
            opacity=0.35,
            hoverinfo="skip",
            showlegend=False,
            **draw.axes(0),
        )
        whiskers = pd.DataFrame(
            [{"value": row.score, "ci_low": row.score_low, "ci_high": row.score_high}]
        )
        figure.add_scatter(
            x=[row.score],
            y=[name],
            error_x=draw.intervals(whiskers),
            mode="markers",
            marker=draw.marker(style, 9),
            customdata=draw.described(whiskers, [f"rank {row.rank}, score"]),
            hovertemplate="%{y}, %{customdata}<extra></extra>",
            showlegend=False,
            **draw.axes(0),
        )
    figure.update_xaxes(title="Score", range=[0, 1.04], dtick=0.2)
    return figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=names[::-1], showgrid=False
    )
