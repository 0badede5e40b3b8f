"""The project's figures: a function for each, from tables of a run to a plotly figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from closer_look.data.cells import BEFORE, RETAIN_ONLY
from closer_look.metrics import METRICS, Metric, forget_quality
from closer_look.reporting import drawing as draw
from closer_look.reporting import figures_of_many
from closer_look.reporting.results import (
    are_means,
    average_tasks,
    current_tasks,
    efficacy,
    final_metrics,
    over_seeds,
    utility,
)
from closer_look.reporting.wording import SPLIT_LABELS

if TYPE_CHECKING:
    import plotly.graph_objects as go

DRAWN_RATIOS = (1e-8, 1e8)  # truth ratios of a broken model may be 0 or infinite
REMEMBERED_TO_FORGOTTEN = ((0, "#FBE6C5"), (0.5, "#C9DAE6"), (1, "#4F93C9"))
GONE_TO_BACK = ((0, "#DCEAF4"), (0.5, "#F7D9A8"), (1, "#E58A5B"))
UTILITY, EFFICACY = "Model utility (MU)", "Forget efficacy (FE)"


def curves(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Draw MU and FE against the number of tasks unlearned, a line per method, with intervals.

    In a run with seeds, lines are means; small marks are the seeds.
    """
    title = "Kept and forgotten, task by task"
    of_seeds, summary = summary, over_seeds(summary)
    if len(labels) > draw.MANY:
        return figures_of_many.curves(title, summary, labels)
    figure = draw.panels(title, [UTILITY, EFFICACY], width=330)
    n_tasks = len(current_tasks(summary, BEFORE))
    for name in draw.references(summary):
        label, _, style = draw.REFERENCES[name]
        kept, known = utility(summary, name), current_tasks(summary, name)
        constant = kept.loc[kept.index.repeat(n_tasks + 1)]
        draw.add_line(figure, 0, range(n_tasks + 1), constant, label=label, style=style)
        draw.add_line(figure, 1, known["task_id"], known, label=label, style=style)
    shifts = draw.spread(len(labels), most=0.64)
    for (method, style), shift in zip(draw.styles(labels).items(), shifts, strict=True):
        kept = pd.concat([utility(summary, BEFORE), utility(summary, method)])
        for panel, rows in enumerate((kept, current_tasks(summary, method))):
            x = rows["after_task"] + shift * (rows["after_task"] > 0)
            draw.add_line(figure, panel, x, rows, label=labels[method], style=style)
        if are_means(summary):
            found = utility(of_seeds, method), current_tasks(of_seeds, method)
            for panel, rows in enumerate(found):
                x = rows["after_task"] + shift
                draw.add_seeds(figure, panel, x, rows, labels[method], style)
    figure.update_xaxes(title="Tasks unlearned", dtick=1, range=[-0.4, n_tasks + 0.4])
    return figure.update_yaxes(range=[0, 1.04])


def trade_off(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Draw MU against FE over all tasks so far; the upper right corner is best.

    Of many methods, only the last models are drawn, with their names, the best first.
    """
    are_many = len(labels) > draw.MANY
    height = figures_of_many.NAMED_PLOT[1] if are_many else 440
    figure = draw.panels("MU against FE over all tasks so far", [""], width=330, height=height)
    for method, (label, style) in draw.looks(summary, labels).items():
        kept = utility(summary, method)
        cells = efficacy(summary, method).groupby("after_task")
        forgotten = pd.DataFrame([average_tasks(tasks) for _, tasks in cells])
        if are_many:
            kept, forgotten = kept.tail(1), forgotten.tail(1)
        n_points = len(kept)
        sizes = [13 if n_points == 1 else 7 + 7 * n / (n_points - 1) for n in range(n_points)]
        figure.add_scatter(
            x=forgotten["value"].tolist(),
            y=kept["value"].tolist(),
            customdata=draw.moments(kept),
            hovertemplate="%{customdata}<br>MU %{y:.3f}, FE %{x:.3f}",
            name=label,
            legendgroup=method,
            mode="markers" if are_many else "lines+markers",
            line={"color": style.colour, "width": 1.5, "dash": style.dash},
            marker=draw.marker(style, sizes) | {"opacity": 1},
        )
    if are_many:
        figure.data = sorted(figure.data, key=lambda mark: -np.nan_to_num(mark.x[-1] + mark.y[-1]))
        figures_of_many.name_marks(figure, upper=1.04)
    figure.update_xaxes(title=EFFICACY, range=[0, 1.04], dtick=0.2)
    return figure.update_yaxes(title=UTILITY, range=[0, 1.04], dtick=0.2)


def forgetting_matrix(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Draw the FE of every task's forget set (rows) after every task (columns), a panel per method.

    A row that pales to the right shows knowledge that comes back.
    """
    before = efficacy(summary, BEFORE)
    n_tasks = len(before)
    panels = list(labels.values())
    cell, least = (24, 170) if len(labels) > draw.MANY else (34, 280)
    height, width = 4 * cell - 26 + cell * n_tasks, max(least, cell * (n_tasks + 1))
    figure = draw.panels("FE of task (row) after task (column)", panels, width=width, height=height)
    for panel, method in enumerate(labels):
        cells = pd.concat([before, efficacy(summary, method)])
        matrix = cells.pivot(index="task_id", columns="after_task", values="value")
        figure.add_heatmap(
            x=[str(task) for task in matrix.columns],
            y=[str(task) for task in matrix.index],
            z=[[None if pd.isna(cell) else cell for cell in row] for row in matrix.to_numpy()],
            zmin=0,
            zmax=1,
            colorscale=REMEMBERED_TO_FORGOTTEN,
            showscale=False,
            xgap=2,
            ygap=2,
            text=[[draw.short(cell) for cell in row] for row in matrix.to_numpy()],
            texttemplate="%{text}",
            textfont={"size": 12 if n_tasks <= 5 and cell > 30 else 10, "color": draw.DARK_TEXT},
            hoverongaps=False,
            hovertemplate="task %{y}, tasks unlearned: %{x}<br>FE %{z:.3f}<extra></extra>",
            **draw.axes(panel),
        )
    figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(type="category", showgrid=False, ticks="")
    return figure.update_xaxes(type="category", showgrid=False, ticks="")


def metric_values(
    metrics: pd.DataFrame, labels: Mapping[str, str], records: Mapping[str, Metric] = METRICS
) -> go.Figure:
    """Draw each metric on each split, before and after the last task of each method.

    Args:
        metrics: the stacked metrics of a run.
        labels: method -> label.
        records: name -> metric to draw.
    """
    title = "Every metric, before and after"
    if len(labels) > draw.MANY:
        return figures_of_many.metric_values(title, metrics, labels, records)
    metric_labels = {name: metric.label for name, metric in records.items()}
    looks = draw.looks(metrics, labels)
    measured = {method: final_metrics(metrics, method) for method in looks}
    splits = [split for split in SPLIT_LABELS if split in set(metrics["split"])]
    height = 90 + len(metric_labels) * max(28, 11 * len(looks))
    panels = [SPLIT_LABELS[split] for split in splits]
    gap = 20 + 6 * max(map(len, metric_labels.values()))  # px of a letter: labels stand there
    figure = draw.panels(title, panels, width=230 + gap, height=height, gap=gap)
    order = {metric: position for position, metric in enumerate(metric_labels)}
    shifts = draw.spread(len(looks), most=0.78)
    for (method, (label, style)), shift in zip(looks.items(), shifts, strict=True):
        for panel, split in enumerate(splits):
            rows = measured[method]
            rows = rows[(rows["split"] == split) & rows["metric"].isin(order)]
            figure.add_scatter(
                x=rows["value"].tolist(),
                y=(rows["metric"].map(order) + shift).tolist(),
                error_x=draw.intervals(rows),
                customdata=draw.described(
                    rows, [metric_labels[metric] for metric in rows["metric"]]
                ),
                hovertemplate="%{customdata}",
                name=label,
                legendgroup=method,
                showlegend=panel == 0,
                mode="markers",
                marker=draw.marker(style, 8),
                **draw.axes(panel),
            )
    figure.update_xaxes(range=[-0.03, 1.04], dtick=0.25, tickformat=".2~f")
    return figure.update_yaxes(
        tickvals=list(order.values()),
        ticktext=[draw.as_text(label) for label in metric_labels.values()],
        range=[len(order) - 0.5, -0.5],
        zeroline=False,
    )


def attack_map(attack_results: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Draw how much each attack (column) gets back of each model (row), as a share of what it knew.

    Args:
        attack_results: of a run, see ``metrics.attack_results``, with ``label`` of the attack.
        labels: method -> label.
    """
    made = attack_results[attack_results["is_largest"].fillna(False).astype(bool)]
    of_models = {name: draw.REFERENCES[name].label for name in draw.references(made)} | labels
    attacks = made.drop_duplicates("attack").set_index("attack")["label"]
    shares = made.pivot(index="method", columns="attack", values="value")
    shares = shares.reindex(index=list(of_models), columns=list(attacks.index))
    settings = made.pivot(index="method", columns="attack", values="setting").reindex_like(shares)
    height, width = 40 + 40 * len(shares), max(300, 130 + 78 * len(attacks))
    figure = draw.panels("What attacks get back", [""], width=width, height=height, gap=110)
    figure.add_heatmap(
        x=[draw.as_text(label) for label in attacks],
        y=[draw.as_text(label) for label in of_models.values()],
        z=[[None if pd.isna(share) else share for share in row] for row in shares.to_numpy()],
        zmin=0,
        zmax=1,
        colorscale=GONE_TO_BACK,
        showscale=False,
        xgap=2,
        ygap=2,
        text=[[draw.short(share) for share in row] for row in shares.to_numpy()],
        customdata=settings.fillna("").to_numpy().tolist(),
        texttemplate="%{text}",
        textfont={"size": 12, "color": draw.DARK_TEXT},
        hoverongaps=False,
        hovertemplate="%{y}, %{x} %{customdata}<br>got back %{z:.3f}<extra></extra>",
        **draw.axes(0),
    )
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, ticks="")
    return figure.update_xaxes(type="category", showgrid=False, ticks="", tickangle=-30)


def truth_ratios(row_metrics: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Draw the cumulative distribution of truth ratios over the forget rows, a panel per method.

    If there is a retain-only model, a panel's title has the p-value of the Kolmogorov-Smirnov test
    between the method and it, over the rows of all tasks. Each curve, and each test, is over the
    rows with a ratio; the title has their number where some have none.
    """
    forget = row_metrics[row_metrics["split"] == "forget"]
    ratios = forget.pivot(index="row_id", columns="method", values="truth_ratio")
    are_many = len(labels) > draw.MANY
    between = "\n" if are_many else ", "
    titles = [
        between.join([label, *_of_ratios(ratios, method)]) for method, label in labels.items()
    ]
    width, height = (170, 180) if are_many else (300, 320)
    title = "Truth ratios of what was forgotten"
    figure = draw.panels(title, titles, width=width, height=height)
    if not ratios.notna().any(axis=None):
        return figure
    ratios = ratios.clip(*DRAWN_RATIOS)
    looks = draw.looks(row_metrics, labels)
    for panel, own in enumerate(labels):
        for name in (*draw.references(row_metrics), own):
            label, style = looks[name]
            ordered = ratios[name].dropna().sort_values().tolist()
            figure.add_scatter(
                x=[*ordered[:1], *ordered],
                y=np.linspace(0, 1, len(ordered) + 1).tolist() if ordered else [],
                name=label,
                legendgroup=name,
                showlegend=name != own and panel == 0,
                mode="lines",
                line={
                    "color": style.colour,
                    "dash": style.dash,
                    "width": style.width,
                    "shape": "hv",
                },
                hovertemplate=f"%{{y:.0%}} of {len(ordered)} rows up to %{{x:.3g}}",
                **draw.axes(panel),
            )
    seen = np.log10(ratios.stack().quantile([0.01, 0.99]))
    figure.update_xaxes(type="log", title="Truth ratio, log", tickformat="~g", dtick=1)
    figure.update_xaxes(range=[seen.iloc[0] - 0.2, seen.iloc[1] + 0.2])
    return figure.update_yaxes(range=[0, 1.02], dtick=0.25, tickformat=".0%")


def _of_ratios(ratios: pd.DataFrame, method: str) -> list[str]:
    """Write the p-value of a method, if there is one, and its number of rows if some are missing.

    Args:
        ratios: truth ratios, a row per question and a column per model.
        method: a column.
    """
    of_test = ratios[[name for name in (method, RETAIN_ONLY) if name in ratios]].dropna()
    words = []
    if RETAIN_ONLY in of_test and len(of_test):
        words.append(f"p = {forget_quality(of_test[method], of_test[RETAIN_ONLY]):.2g}")
    if 0 < len(of_test) < len(ratios):
        words.append(f"{len(of_test)} of {len(ratios)} rows")
    return words
