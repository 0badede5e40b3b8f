"""Figures of training, step by step: of unlearning, and of the target model's fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from closer_look.reporting import drawing as draw

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHARED_PANELS = {"gradient_norm": "Gradient norm, log", "learning_rate": "Learning rate"}
LOSS_DASHES = {"forget_loss": "solid", "retain_loss": "dot"}


def training_curves(logs: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Draw each method's losses, gradient norm and learning rate, step by step through all tasks.

    Gradient norms and learning rates share panels; those of many methods are in the hover boxes.

    Args:
        logs: the stacked training logs, with method, after_task, step and the logged columns.
        labels: method -> label; those without a step have no panel.
    """
    trained = set(logs["method"])
    styles = {key: style for key, style in draw.styles(labels).items() if key in trained}
    shared = dict(SHARED_PANELS) if len(styles) <= draw.MANY else {}
    if "retain_weight" in logs and logs["retain_weight"].notna().any():
        shared["retain_weight"] = "Retain weight"
    height = 240 if len(styles) <= draw.MANY else 170
    figure = draw.panels(
        "Unlearning, by optimiser step",
        [*(labels[method] for method in styles), *shared.values()],
        width=320 if len(styles) <= draw.MANY else 170,
        height=height,
    )
    for column, dash in LOSS_DASHES.items():
        line, name = {"color": draw.GREY, "dash": dash}, column.replace("_", " ").capitalize()
        figure.add_scatter(
            x=[None], y=[None], mode="lines", line=line, name=name, legendgroup=name, **draw.axes(0)
        )
    in_shared = {column: len(styles) + place for place, column in enumerate(shared)}
    for own_panel, (method, style) in enumerate(styles.items()):
        log = logs[logs["method"] == method]
        steps = list(range(1, len(log) + 1))
        lines = [(own_panel, column, dash) for column, dash in LOSS_DASHES.items()]
        lines += [(panel, column, style.dash) for column, panel in in_shared.items()]
        for panel, column, dash in lines:
            if column not in log or log[column].isna().all():
                continue
            figure.add_scatter(
                x=steps,
                y=log[column].tolist(),
                customdata=log[list(SHARED_PANELS)].to_numpy().tolist(),
                name=draw.as_text(labels[method]),
                legendgroup=method,
                showlegend=column == "gradient_norm",
                mode="lines",
                line={"color": style.colour, "dash": dash, "width": 1.5},
                hovertemplate=f"step %{{x}}: {column.replace('_', ' ')} %{{y:.4g}}<br>gradient "
                "norm %{customdata[0]:.3g}, learning rate %{customdata[1]:.3g}",
                **draw.axes(panel),
            )
        draw.mark_tasks(figure, own_panel, log)
    if "gradient_norm" in in_shared:
        norms = f"yaxis{in_shared['gradient_norm'] + 1}"
        figure.update_layout({norms: {"type": "log", "dtick": 1}})
    return figure.update_yaxes(exponentformat="e")


def finetuning_curves(log: pd.DataFrame) -> go.Figure:
    """Draw loss, gradient norm and learning rate of the target model's fine-tuning, by step."""
    columns = {
        "loss": "Loss, log",
        "gradient_norm": "Gradient norm",
        "learning_rate": "Learning rate",
    }
    figure = draw.panels(
        "Fine-tuning, by optimiser step", list(columns.values()), width=300, height=220
    )
    for panel, column in enumerate(columns):
        figure.add_scatter(
            x=log["step"].tolist(),
            y=log[column].tolist(),
            mode="lines",
            line={"color": draw.COLOURS[0], "width": 1.5},
            showlegend=False,
            hovertemplate=f"step %{{x}}: {column.replace('_', ' ')} %{{y:.4g}}<extra></extra>",
            **draw.axes(panel),
        )
    figure.update_yaxes(exponentformat="e")
    return figure.update_layout(yaxis={"type": "log", "dtick": 1})
