"""Figures from small hand-made tables: what is drawn where, and that it can be told apart."""

import itertools

import numpy as np
import pandas as pd
import pytest

from closer_look.data.questions import SPLITS
from closer_look.metrics import METRICS
from closer_look.reporting import drawing, figures, figures_of_many, figures_of_training, wording

LABELS = {"ga_gd": "GA+GD", "me_gd": "ME+GD", "idk_ap": "IDK+AP"}
ALL_LABELS = {
    "ga_gd": "GA+GD",
    "ga_kl": "GA+KL",
    "npo_gd": "NPO+GD",
    "npo_kl": "NPO+KL",
    "dpo_gd": "DPO+GD",
    "dpo_kl": "DPO+KL",
    "idk_gd": "IDK+GD",
    "idk_kl": "IDK+KL",
    "me_gd": "ME+GD",
    "idk_ap": "IDK+AP",
    "llmu": "LLMU",
}
LIGHT, DARK = "#FFFFFF", "#15181C"  # the report's backgrounds


@pytest.fixture
def summary():
    """Two tasks; every method has MU 0.8 and 0.7 and FE 0.6, then 0.4 and 0.9."""
    lines = [("before", 0, "model_utility", 0, 0.9)]
    lines += [("before", 0, "forget_efficacy", task, 0.1) for task in (1, 2)]
    for method in LABELS:
        lines += [
            (method, 1, "model_utility", 0, 0.8),
            (method, 1, "forget_efficacy", 1, 0.6),
            (method, 2, "model_utility", 0, 0.7),
            (method, 2, "forget_efficacy", 1, 0.4),
            (method, 2, "forget_efficacy", 2, 0.9),
        ]
    table = pd.DataFrame(lines, columns=["method", "after_task", "metric", "task_id", "value"])
    return table.assign(ci_low=table["value"] - 0.05, ci_high=table["value"] + 0.02)


@pytest.fixture
def seeded(summary):
    """The same with two seeds, which lie 0.05 below and above."""
    is_made = summary["method"] != "before"
    made = summary[is_made]
    values = ["value", "ci_low", "ci_high"]
    of_seeds = [made.assign(seed=seed) for seed in (1001, 1002)]
    for table, shift in zip(of_seeds, (-0.05, 0.05), strict=True):
        table[values] += shift
    table = pd.concat([summary[~is_made].assign(seed=None), *of_seeds])
    return table.astype({"seed": "Int64"}).assign(terms="rouge", reason="")


def test_curves_are_means_with_a_stroke_for_each_seed(seeded):
    drawn = figures.curves(seeded, LABELS).data
    of_method = [trace for trace in drawn if trace.name == "ME+GD" and trace.yaxis == "y"]
    mean, strokes = of_method
    assert mean.y == pytest.approx((0.9, 0.8, 0.7))
    # Student's t of two: 12.7 * 0.05.
    assert mean.customdata[1].endswith("<br>over 2 seeds [0.165, 1.435]")
    assert "seeds" not in mean.customdata[0]  # of the model before
    assert strokes.y == pytest.approx((0.75, 0.65, 0.85, 0.75))
    assert strokes.x == mean.x[1:] * 2
    assert strokes.customdata[0] == "seed 1001, after task 1: 0.750"
    assert not strokes.showlegend


@pytest.fixture
def metrics():
    """Two metrics on two splits; forget sets of two tasks."""
    lines = [
        (method, after_task, split, task_id, metric, 0.5 + 0.1 * task_id)
        for method, after_task in [("before", 0), *((method, 2) for method in LABELS)]
        for split, task_id in (("forget", 1), ("forget", 2), ("world_facts", 0))
        for metric in ("rouge", "token_entropy")
    ]
    columns = ["method", "after_task", "split", "task_id", "metric", "value"]
    table = pd.DataFrame(lines, columns=columns)
    return table.assign(ci_low=table["value"] - 0.03, ci_high=table["value"] + 0.04)


@pytest.fixture
def add_retain_only():
    """Put a retain-only model, a little below the model before, into a table."""

    def add(table):
        rows = table[table["method"] == "before"].assign(method="retain_only")
        columns = ["value", "ci_low", "ci_high"]
        return pd.concat([table, rows.assign(**{c: rows[c] - 0.04 for c in columns})])

    return add


@pytest.fixture
def add_methods():
    """Give all methods the rows of one."""

    def add(table):
        rows = table[table["method"] == "me_gd"]
        others = table[~table["method"].isin(list(LABELS))]
        return pd.concat([others, *(rows.assign(method=method) for method in ALL_LABELS)])

    return add


@pytest.fixture
def logs():
    """Two tasks of three steps for each method."""
    return pd.DataFrame(
        {
            "method": method,
            "after_task": after_task,
            "step": step,
            "forget_loss": -step,
            "retain_loss": 0.1 * step,
            "gradient_norm": 2.0,
            "learning_rate": 1e-5,
        }
        for method in LABELS
        for after_task in (1, 2)
        for step in (1, 2, 3)
    )


@pytest.fixture
def row_metrics():
    """Three rows to forget and one to keep; the model before knows all, every method none."""
    rows = [("forget", 1, "a"), ("forget", 1, "b"), ("forget", 2, "c"), ("retain", 0, "d")]
    rows = pd.DataFrame(rows, columns=["split", "task_id", "row_id"])
    tables = [rows.assign(method="before", truth_ratio=[8.0, 2.0, 4.0, 50.0])]
    tables += [rows.assign(method=m, truth_ratio=[1.25, 1.0, 0.5, 50.0]) for m in LABELS]
    return pd.concat(tables, ignore_index=True)


def every_figure(summary, metrics, logs, labels=LABELS):
    rows = pd.DataFrame({"split": "forget", "row_id": ["a", "b"], "truth_ratio": [1.0, 2.0]})
    rows = pd.concat([rows.assign(method=method) for method in ("before", *labels)])
    return {
        "truth_ratios": figures.truth_ratios(rows, labels),
        "curves": figures.curves(summary, labels),
        "trade_off": figures.trade_off(summary, labels),
        "forgetting_matrix": figures.forgetting_matrix(summary, labels),
        "metric_values": figures.metric_values(metrics, labels),
        "training_curves": figures_of_training.training_curves(logs, labels),
        "finetuning_curves": figures_of_training.finetuning_curves(
            logs.rename(columns={"forget_loss": "loss"})
        ),
    }


def panel(figure, name, axis):
    """The one trace of that name on that axis."""
    (trace,) = [t for t in figure.data if t.name == name and (t.xaxis or "x") == axis]
    return trace


class TestEveryFigure:
    def test_panels_say_how_small_they_get(self, summary, metrics, logs):
        counts = {
            name: figure.layout.meta["n_panels"]
            for name, figure in every_figure(summary, metrics, logs).items()
        }
        assert counts == {
            "truth_ratios": 3,
            "curves": 2,
            "trade_off": 1,
            "forgetting_matrix": 3,
            "metric_values": 2,
            "training_curves": 5,
            "finetuning_curves": 3,
        }

    def test_panels_do_not_overlap(self, summary, metrics, logs):
        for name, figure in every_figure(summary, metrics, logs).items():
            areas = [
                (*figure.layout[f"xaxis{n}"].domain, *figure.layout[f"yaxis{n}"].domain)
                for n in ["", *range(2, figure.layout.meta["n_panels"] + 1)]
            ]
            for position, (left, right, bottom, top) in enumerate(areas):
                assert left < right and bottom < top
                for x0, x1, y0, y1 in areas[position + 1 :]:
                    assert right < x0 or x1 < left or top < y0 or y1 < bottom, name

    def test_text_and_background_are_left_to_the_viewer(self, summary, metrics, logs):
        for figure in every_figure(summary, metrics, logs).values():
            assert figure.layout.font.color is None
            assert figure.layout.template.layout.font.color is None
            assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"

    def test_panels_are_as_high_as_they_say(self, summary, metrics, logs, add_methods):
        many = (add_methods(summary), add_methods(metrics), add_methods(logs))
        for figure in every_figure(*many, ALL_LABELS).values():
            low, high = figure.layout.yaxis.domain
            room = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
            said = figure.layout.meta["height"]
            assert said <= (high - low) * room <= said + 40

    def test_titles_fit_on_a_phone(self, summary, metrics, logs):
        for figure in every_figure(summary, metrics, logs).values():
            assert 5 < len(figure.layout.title.text) <= 40

    def test_a_figure_is_json_without_packed_arrays(self, summary, metrics, logs):
        # kedro-viz brings its own plotly.js: plain lists are understood by every version.
        for figure in every_figure(summary, metrics, logs).values():
            assert '"bdata"' not in figure.to_json()

    def test_ten_methods_can_be_told_apart(self, summary):
        labels = {f"method_{n}": f"M{n}" for n in range(10)}
        rows = summary[summary["method"] == "me_gd"]
        many = pd.concat([rows.assign(method=method) for method in labels])
        many = pd.concat([summary[summary["method"] == "before"], many])
        figure = figures.curves(many, labels)
        looks = {(t.line.color, t.marker.symbol) for t in figure.data if t.name in labels.values()}
        assert len(looks) == 10

    def test_labels_are_no_markup(self, summary, metrics, logs):
        markup = "<b>A</b><br><a href='x'>B</a>"
        drawn = every_figure(summary, metrics, logs, LABELS | {"ga_gd": markup})
        for name, figure in drawn.items():
            shown = str(figure.to_dict())
            assert "<b>" not in shown, name
            assert ("&lt;b&gt;A&lt;/b&gt;" in shown) == (name != "finetuning_curves"), name

    def test_labels_of_own_metrics_are_no_markup(self, metrics):
        records = {"rouge": METRICS["rouge"]._replace(label="<b>R</b>")}
        shown = str(figures.metric_values(metrics, LABELS, records).to_dict())
        assert "<b>" not in shown
        assert shown.count("&lt;b&gt;R&lt;/b&gt;") > 1  # on the axis and in the hover box


@pytest.fixture
def labels_of_many():
    """Twenty-four methods, two of which are another way of one with the same losses."""
    others = {f"other_{n}": f"Other {n}" for n in range(11)}
    return ALL_LABELS | others | {"ways": "ME+GD, DualOptim", "surgery": "NPO+GD, surgery"}


@pytest.fixture
def many(summary, metrics, logs, add_retain_only, labels_of_many):
    """The tables with rows of so many methods, of which the first is the best."""

    def of_many(table):
        rows = table[table["method"] == "me_gd"]
        others = table[~table["method"].isin(list(LABELS))]
        return pd.concat([others, *(rows.assign(method=method) for method in labels_of_many)])

    tables = [add_retain_only(of_many(summary)), add_retain_only(of_many(metrics)), of_many(logs)]
    tables[0].loc[tables[0]["method"] == "surgery", "value"] += 0.05
    return tables


class TestManyMethods:
    def test_all_marks_differ_and_ways_share_the_filling_of_their_losses(self, labels_of_many):
        styles = drawing.styles(labels_of_many)
        assert len({(style.colour, style.symbol) for style in styles.values()}) == 24
        assert styles["npo_kl"].dash == "dash" != styles["surgery"].dash == "solid"

    def test_curves_have_a_panel_each_and_one_legend(self, many, labels_of_many):
        figure = figures.curves(many[0], labels_of_many)
        assert [title.text for title in figure.layout.annotations] == [*labels_of_many.values()]
        shown = [trace.name for trace in figure.data if trace.showlegend]
        assert shown == ["MU, before", "MU, retain-only", "MU", "FE"]
        assert list(panel(figure, "MU", "x3").y) == [0.9, 0.8, 0.7]
        assert list(panel(figure, "FE", "x3").y) == [0.6, 0.9]

    def test_the_trade_off_is_of_the_last_models_the_best_first(self, many, labels_of_many):
        figure = figures.trade_off(many[0], labels_of_many)
        assert figure.data[0].name == "NPO+GD, surgery"
        assert {len(trace.x) for trace in figure.data} == {1}
        assert len(figure.data) == 26

    def test_names_stand_beside_the_marks(self, many, labels_of_many):
        figure = figures.trade_off(many[0], labels_of_many)
        names = {note.text: (note.x, note.y) for note in figure.layout.annotations}
        assert names["NPO+GD, surgery"] == pytest.approx((0.7, 0.75))
        assert all(note.showarrow for note in figure.layout.annotations)

    def test_metrics_have_a_row_for_each_model(self, many, labels_of_many):
        forget, facts = figures.metric_values(many[1], labels_of_many).data
        assert list(forget.y) == ["Before", "Retain-only", *labels_of_many.values()]
        assert list(forget.x) == ["ROUGE-L", "Entropy"]
        assert list(forget.z[2]) == pytest.approx([0.65, 0.65])
        assert list(facts.text[2]) == [".50", ".50"]

    def test_gradient_norms_are_said_and_not_drawn(self, many, labels_of_many):
        figure = figures_of_training.training_curves(many[2], labels_of_many)
        assert figure.layout.meta["n_panels"] == 24
        assert figure.data[-1].customdata[0] == [2.0, 1e-5]

    def test_panels_are_as_high_as_they_say(self, many, labels_of_many):
        for figure in every_figure(*many, labels_of_many).values():
            low, high = figure.layout.yaxis.domain
            room = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
            said = figure.layout.meta["height"]
            assert said <= (high - low) * room <= said + 40

    def test_two_panels_fit_beside_each_other_on_a_phone(self, many, labels_of_many):
        for name, figure in every_figure(*many, labels_of_many).items():
            if figure.layout.meta["n_panels"] > 10:
                assert figure.layout.meta["width"] <= 175, name

    @pytest.mark.parametrize("colour", [colour for _, colour in figures_of_many.LOW_TO_HIGH])
    def test_numbers_show_on_every_cell(self, colour):
        assert contrast(drawing.DARK_TEXT, colour) >= 4.5


class TestStyles:
    def test_eleven_methods_can_be_told_apart_by_marks_and_by_lines(self):
        styles = drawing.styles(ALL_LABELS)
        assert list(styles) == list(ALL_LABELS)
        assert len({(style.colour, style.symbol) for style in styles.values()}) == 11
        assert len({(style.colour, style.dash) for style in styles.values()}) == 11

    def test_methods_with_one_forget_loss_share_colour_and_shape(self):
        styles = drawing.styles(ALL_LABELS)
        families = {}
        for method, style in styles.items():
            look = (style.colour, style.symbol.partition("-open")[0])
            families.setdefault(method.partition("_")[0], set()).add(look)
        assert set(families) == {"ga", "npo", "dpo", "idk", "me", "llmu"}
        assert [len(looks) for looks in families.values()] == [1] * 6
        for part in (0, 1):  # without colour, shape is enough; without shape, colour
            assert len({look[part] for (look,) in families.values()}) == 6

    def test_methods_with_one_retain_loss_share_filling_and_dash(self):
        dashes = {}
        for method, style in drawing.styles(ALL_LABELS).items():
            dashes.setdefault(method.partition("_")[2], set()).add(
                (style.dash, style.symbol.endswith("-open"), style.symbol.endswith("-dot"))
            )
        assert dashes["gd"] == {("solid", False, False)} == dashes[""]
        assert dashes["kl"] == {("dash", True, False)}
        assert dashes["ap"] == {("dot", False, True)}

    def test_more_retain_losses_than_dashes_get_a_colour_for_each_method(self):
        labels = {f"npo_{n}": f"NPO+{n}" for n in range(6)}
        styles = drawing.styles(labels).values()
        assert len({style.colour for style in styles}) == len({s.symbol for s in styles}) == 6

    def test_no_method_looks_like_a_model_to_compare_with(self):
        references = [reference.style for reference in drawing.REFERENCES.values()]
        assert len({style.symbol for style in references}) == 2
        assert len({style.dash for style in references}) == 2
        for style in references:
            assert style.colour not in drawing.COLOURS
            assert style.symbol.partition("-")[0] not in drawing.SYMBOLS


class TestColours:
    @pytest.mark.parametrize("background", [LIGHT, DARK])
    @pytest.mark.parametrize("colour", [*drawing.COLOURS, drawing.GREY])
    def test_lines_show_on_light_and_on_dark(self, colour, background):
        assert contrast(colour, background) >= 2.9  # WCAG asks 3 of graphics

    @pytest.mark.parametrize("vision", ["normal", "protan", "deutan", "tritan"])
    def test_any_two_are_told_apart_with_any_colour_vision(self, vision):
        seen = [as_seen(colour, vision) for colour in (*drawing.COLOURS, drawing.GREY)]
        for one, other in itertools.combinations(seen, 2):
            # 2.3 is a just noticeable difference; thin lines and small marks need much more.
            assert np.linalg.norm(one - other) > 15

    @pytest.mark.parametrize("colour", [colour for _, colour in figures.REMEMBERED_TO_FORGOTTEN])
    def test_numbers_show_on_every_cell(self, colour):
        assert contrast(drawing.DARK_TEXT, colour) >= 4.5

    def test_cells_get_darker_as_more_is_forgotten(self):
        shades = [luminance(colour) for _, colour in figures.REMEMBERED_TO_FORGOTTEN]
        assert shades == sorted(shades, reverse=True)


# Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1; of linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ_OF_RGB = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
WHITE = [0.9505, 1, 1.089]


def linear_rgb(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    """Relative luminance of WCAG 2."""
    return float(linear_rgb(colour) @ [0.2126, 0.7152, 0.0722])


def as_seen(colour, vision):
    """CIELAB of a colour as somebody with that colour vision sees it."""
    rgb = np.clip(VISIONS[vision] @ linear_rgb(colour), 0, 1)
    t = XYZ_OF_RGB @ rgb / WHITE
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


class TestLabels:
    def test_every_split_and_metric_has_one(self):
        assert set(wording.SPLIT_LABELS) == set(SPLITS)


class TestCurves:
    def test_utility_starts_at_the_model_before(self, summary):
        line = panel(figures.curves(summary, LABELS), "ME+GD", "x")
        assert line.x[0] == 0
        assert list(line.y) == [0.9, 0.8, 0.7]

    def test_efficacy_is_of_the_task_just_unlearned(self, summary):
        line = panel(figures.curves(summary, LABELS), "ME+GD", "x2")
        assert list(line.y) == [0.6, 0.9]

    def test_intervals_reach_to_their_bounds(self, summary):
        line = panel(figures.curves(summary, LABELS), "ME+GD", "x2")
        assert list(line.error_y.array) == pytest.approx([0.02, 0.02])
        assert list(line.error_y.arrayminus) == pytest.approx([0.05, 0.05])
        assert line.customdata[0] == "after task 1: 0.600 [0.550, 0.620]"

    def test_a_value_outside_its_bootstrap_interval_has_no_negative_whisker(self, summary):
        line = panel(figures.curves(summary.assign(ci_high=0.0), LABELS), "ME+GD", "x2")
        assert list(line.error_y.array) == [0, 0]

    def test_methods_stand_beside_each_other_near_their_task(self, summary):
        figure = figures.curves(summary, LABELS)
        places = [panel(figure, label, "x2").x[0] for label in LABELS.values()]
        assert len(set(places)) == 3
        assert places == pytest.approx([1, 1, 1], abs=0.25)

    def test_the_model_before_is_a_line_of_comparison(self, summary):
        figure = figures.curves(summary, LABELS)
        kept, known = (panel(figure, wording.BEFORE_LABEL, axis) for axis in ("x", "x2"))
        assert (list(kept.x), list(kept.y)) == ([0, 1, 2], [0.9, 0.9, 0.9])
        assert (list(known.x), list(known.y)) == ([1, 2], [0.1, 0.1])

    def test_a_retain_only_model_is_another_line_of_comparison(self, summary, add_retain_only):
        figure = figures.curves(add_retain_only(summary), LABELS)
        kept, known = (panel(figure, wording.RETAIN_ONLY_LABEL, axis) for axis in ("x", "x2"))
        assert list(kept.y) == pytest.approx([0.86, 0.86, 0.86])
        assert (list(known.x), list(known.y)) == ([1, 2], pytest.approx([0.06, 0.06]))
        assert known.customdata[0].startswith("never trained on what is forgotten: 0.060")
        assert {kept.line.dash, panel(figure, "Before", "x").line.dash} == {"dash", "dot"}
        assert kept.line.width < panel(figure, "ME+GD", "x").line.width

    def test_no_retain_only_model_is_drawn_where_there_is_none(self, summary):
        names = {trace.name for trace in figures.curves(summary, LABELS).data}
        assert wording.RETAIN_ONLY_LABEL not in names

    def test_eleven_methods_stay_near_their_task(self, summary, add_methods):
        figure = figures.curves(add_methods(summary), ALL_LABELS)
        places = [panel(figure, label, "x2").x[0] for label in ALL_LABELS.values()]
        assert len(set(places)) == 11
        assert places == pytest.approx([1] * 11, abs=0.33)
        left, right = figure.layout.xaxis2.range
        assert left < min(places)
        assert max(panel(figure, "LLMU", "x2").x) < right

    def test_each_method_is_in_the_legend_once(self, summary):
        shown = [t.name for t in figures.curves(summary, LABELS).data if t.showlegend]
        assert shown == [wording.BEFORE_LABEL, *LABELS.values()]

    def test_one_task_and_one_method(self, summary):
        first = summary[(summary["after_task"] < 2) & (summary["task_id"] < 2)]
        line = panel(figures.curves(first, {"me_gd": "ME+GD"}), "ME+GD", "x2")
        assert (list(line.x), list(line.y)) == ([1], [0.6])


class TestTradeOff:
    def test_points_are_mean_efficacy_so_far_against_utility(self, summary):
        line = panel(figures.trade_off(summary, LABELS), "ME+GD", "x")
        assert list(line.x) == pytest.approx([0.6, 0.65])
        assert list(line.y) == [0.8, 0.7]

    def test_later_tasks_have_larger_marks(self, summary):
        sizes = panel(figures.trade_off(summary, LABELS), "ME+GD", "x").marker.size
        assert sizes[1] > sizes[0]

    def test_starts_from_the_model_before(self, summary):
        start = panel(figures.trade_off(summary, LABELS), wording.BEFORE_LABEL, "x")
        assert (list(start.x), list(start.y)) == (pytest.approx([0.1]), [0.9])

    def test_a_retain_only_model_is_a_point_of_comparison(self, summary, add_retain_only):
        figure = figures.trade_off(add_retain_only(summary), LABELS)
        names = [trace.name for trace in figure.data]
        assert names == [wording.BEFORE_LABEL, wording.RETAIN_ONLY_LABEL, *LABELS.values()]
        point = panel(figure, wording.RETAIN_ONLY_LABEL, "x")
        assert (list(point.x), list(point.y)) == (pytest.approx([0.06]), pytest.approx([0.86]))
        assert point.customdata == ("never trained on what is forgotten",)
        assert point.marker.symbol != panel(figure, wording.BEFORE_LABEL, "x").marker.symbol
        assert point.showlegend is not False

    def test_without_a_retain_only_model_there_is_no_such_point(self, summary):
        names = [trace.name for trace in figures.trade_off(summary, LABELS).data]
        assert names == [wording.BEFORE_LABEL, *LABELS.values()]


class TestForgettingMatrix:
    def test_a_panel_a_method_and_no_cell_in_the_future(self, summary):
        figure = figures.forgetting_matrix(summary, LABELS)
        assert [title.text for title in figure.layout.annotations] == list(LABELS.values())
        for heatmap in figure.data:
            assert [list(row) for row in heatmap.z] == [[0.1, 0.6, 0.4], [0.1, None, 0.9]]

    def test_rows_are_tasks_and_columns_moments(self, summary):
        heatmap = figures.forgetting_matrix(summary, LABELS).data[0]
        assert (heatmap.y, heatmap.x) == (("1", "2"), ("0", "1", "2"))

    def test_cells_show_their_value(self, summary):
        heatmap = figures.forgetting_matrix(summary, LABELS).data[0]
        assert [list(row) for row in heatmap.text] == [[".10", ".60", ".40"], [".10", "", ".90"]]

    def test_a_full_value_keeps_its_one(self):
        assert drawing.short(1.0) == "1.00"

    def test_methods_share_one_scale(self, summary):
        for heatmap in figures.forgetting_matrix(summary, LABELS).data:
            assert (heatmap.zmin, heatmap.zmax) == (0, 1)


class TestMetricValues:
    def test_a_panel_a_split_that_was_evaluated(self, metrics):
        figure = figures.metric_values(metrics, LABELS)
        assert [title.text for title in figure.layout.annotations] == ["Forget set", "World facts"]

    def test_the_forget_set_is_averaged_over_tasks(self, metrics):
        marks = panel(figures.metric_values(metrics, LABELS), "ME+GD", "x")
        assert list(marks.x) == pytest.approx([0.65, 0.65])
        assert list(marks.error_x.array) == pytest.approx([0.04 / 2**0.5] * 2)

    def test_marks_lie_near_the_line_of_their_metric(self, metrics):
        figure = figures.metric_values(metrics, LABELS)
        lines = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
        heights = [panel(figure, label, "x").y for label in ("Before", *LABELS.values())]
        for rouge, entropy in heights:
            assert rouge == pytest.approx(lines["ROUGE-L"], abs=0.4)
            assert entropy == pytest.approx(lines["Entropy"], abs=0.4)
        assert len({rouge for rouge, _ in heights}) == 4

    def test_a_retain_only_model_stands_beside_the_model_before(self, metrics, add_retain_only):
        figure = figures.metric_values(add_retain_only(metrics), LABELS)
        marks = panel(figure, wording.RETAIN_ONLY_LABEL, "x2")
        assert list(marks.x) == pytest.approx([0.46, 0.46])
        names = [trace.name for trace in figures.metric_values(metrics, LABELS).data]
        assert wording.RETAIN_ONLY_LABEL not in names

    def test_marks_of_eleven_methods_do_not_cover_each_other(
        self, metrics, add_methods, add_retain_only
    ):
        figure = figures.metric_values(add_retain_only(add_methods(metrics)), ALL_LABELS)
        labels = ["Before", "Retain-only", *ALL_LABELS.values()]
        heights = [panel(figure, label, "x").y for label in labels]
        low, high = figure.layout.yaxis.range
        pixels = figure.layout.meta["height"] / abs(high - low)
        for one, other in itertools.pairwise(rouge for rouge, _ in heights):
            assert (other - one) * pixels >= panel(figure, "LLMU", "x").marker.size
        # And a metric's last mark is farther from the next metric's first.
        gap = heights[0][1] - heights[-1][0]
        assert gap > 2 * (heights[1][0] - heights[0][0])


class TestTruthRatios:
    def test_share_of_the_forgotten_rows_by_ratio(self, row_metrics):
        line = panel(figures.truth_ratios(row_metrics, LABELS), "ME+GD", "x2")
        assert line.x == (0.5, 0.5, 1.0, 1.25)
        assert line.y == pytest.approx((0, 1 / 3, 2 / 3, 1))
        assert line.line.shape == "hv"  # from a ratio to the next the share stays

    def test_the_model_before_stands_in_every_panel(self, row_metrics):
        figure = figures.truth_ratios(row_metrics, LABELS)
        for axis in ("x", "x2", "x3"):
            assert panel(figure, "Before", axis).x == (2.0, 2.0, 4.0, 8.0)
        assert [t.showlegend for t in figure.data if t.name == "Before"] == [True, False, False]

    def test_a_retain_only_model_is_compared_with(self, row_metrics):
        rows = row_metrics[row_metrics["method"] == "me_gd"].assign(method="retain_only")
        figure = figures.truth_ratios(pd.concat([row_metrics, rows]), {"me_gd": "ME+GD"})
        assert panel(figure, "Retain-only", "x").x == (0.5, 0.5, 1.0, 1.25)
        assert [a.text for a in figure.layout.annotations] == ["ME+GD, p = 1"]

    def test_rows_that_one_model_lacks_are_not_taken_from_the_others(self, row_metrics):
        stored = (row_metrics["method"] == "me_gd") & (row_metrics["row_id"] != "c")
        retain_only = row_metrics[stored].assign(method="retain_only")
        rows = pd.concat([row_metrics, retain_only], ignore_index=True)
        rows.loc[(rows["method"] == "ga_gd") & (rows["row_id"] == "a"), "truth_ratio"] = np.nan
        figure = figures.truth_ratios(rows, LABELS)
        assert panel(figure, "ME+GD", "x2").x == (0.5, 0.5, 1.0, 1.25)
        assert panel(figure, "ME+GD", "x2").hovertemplate == "%{y:.0%} of 3 rows up to %{x:.3g}"
        for name in ("GA+GD", "Retain-only"):
            assert panel(figure, name, "x").y == (0, 0.5, 1)
        assert [a.text for a in figure.layout.annotations] == [
            "GA+GD, p = 1, 1 of 3 rows",
            "ME+GD, p = 1, 2 of 3 rows",
            "IDK+AP, p = 1, 2 of 3 rows",
        ]

    def test_titles_name_the_methods_and_the_legend_what_they_share(self, row_metrics):
        figure = figures.truth_ratios(row_metrics, LABELS)
        assert [t.name for t in figure.data if t.showlegend] == ["Before"]

    def test_without_one_no_p_value_is_said(self, row_metrics):
        figure = figures.truth_ratios(row_metrics, LABELS)
        assert [a.text for a in figure.layout.annotations] == list(LABELS.values())

    def test_a_ratio_without_bound_is_drawn_at_the_edge(self, row_metrics):
        is_row = (row_metrics["row_id"] == "a") & (row_metrics["method"] == "ga_gd")
        row_metrics.loc[is_row, "truth_ratio"] = np.inf
        line = panel(figures.truth_ratios(row_metrics, LABELS), "GA+GD", "x")
        assert line.x == (0.5, 0.5, 1.0, figures.DRAWN_RATIOS[1])

    def test_without_ratios_nothing_is_drawn(self, row_metrics):
        rows = row_metrics.assign(truth_ratio=np.nan)
        assert figures.truth_ratios(rows, LABELS).data == ()


class TestTrainingCurves:
    def test_steps_go_on_through_the_tasks(self, logs):
        figure = figures_of_training.training_curves(logs, LABELS)
        forget = next(t for t in figure.data if t.name == "GA+GD" and t.line.dash == "solid")
        assert list(forget.x) == [1, 2, 3, 4, 5, 6]
        assert list(forget.y) == [-1, -2, -3, -1, -2, -3]

    def test_retain_loss_is_dotted_beside_it(self, logs):
        figure = figures_of_training.training_curves(logs, LABELS)
        dotted = [t for t in figure.data if t.name == "ME+GD" and t.line.dash == "dot"]
        assert [t.xaxis for t in dotted] == ["x2"]
        assert list(dotted[0].y) == pytest.approx([0.1, 0.2, 0.3] * 2)

    def test_a_method_without_retain_loss_has_no_dotted_line(self, logs):
        logs.loc[logs["method"] == "me_gd", "retain_loss"] = np.nan
        figure = figures_of_training.training_curves(logs, LABELS)
        assert [t.line.dash for t in figure.data if t.xaxis == "x2"] == ["solid"]

    def test_a_method_without_steps_has_no_panel(self, logs):
        figure = figures_of_training.training_curves(
            logs, LABELS | {"prompt_guard": "Prompt guard"}
        )
        assert figure == figures_of_training.training_curves(logs, LABELS)

    def test_a_weight_that_training_changes_has_a_panel(self, logs):
        weights = logs["step"].where(logs["method"] == "ga_gd")
        figure = figures_of_training.training_curves(logs.assign(retain_weight=weights), LABELS)
        assert figure.layout.annotations[-1].text == "Retain weight"
        (line,) = [trace for trace in figure.data if trace.xaxis == "x6"]
        assert (line.name, list(line.y)) == ("GA+GD", [1, 2, 3, 1, 2, 3])

    def test_gradient_norms_and_learning_rates_share_panels(self, logs):
        figure = figures_of_training.training_curves(logs, LABELS)
        norms = [t for t in figure.data if t.xaxis == "x4"]
        rates = [t for t in figure.data if t.xaxis == "x5"]
        assert [t.name for t in norms] == [t.name for t in rates] == list(LABELS.values())
        assert set(norms[0].y) == {2.0} and set(rates[0].y) == {1e-5}
        assert figure.layout.yaxis4.type == "log"
        assert figure.layout.yaxis5.type is None

    def test_lines_that_share_a_panel_are_dashed_as_in_the_legend(self, logs, add_methods):
        figure = figures_of_training.training_curves(add_methods(logs), ALL_LABELS)
        shown = {t.name: (t.line.color, t.line.dash) for t in figure.data if t.showlegend}
        assert len(set(shown.values())) == 11
        for axis in ("x12", "x13"):
            shared = {t.name: (t.line.color, t.line.dash) for t in figure.data if t.xaxis == axis}
            assert shared == shown

    def test_a_line_parts_the_tasks_of_each_method(self, logs):
        shapes = figures_of_training.training_curves(logs, LABELS).layout.shapes
        assert [(shape.xref, shape.x0) for shape in shapes] == [
            ("x", 3.5),
            ("x2", 3.5),
            ("x3", 3.5),
        ]


class TestFinetuningCurves:
    def test_loss_norm_and_rate_against_steps(self):
        log = pd.DataFrame(
            {"step": [1, 2], "loss": [3.0, 1.0], "gradient_norm": [2, 1], "learning_rate": [0, 1]}
        )
        loss, norm, rate = figures_of_training.finetuning_curves(log).data
        assert (list(loss.x), list(loss.y)) == ([1, 2], [3.0, 1.0])
        assert (list(norm.y), list(rate.y)) == ([2, 1], [0, 1])
