"""Tables of a run from small hand-made cells."""

import pkgutil

import numpy as np
import pandas as pd
import pytest

from closer_look.pipelines.reporting import nodes
from closer_look.reporting import results
from closer_look.reporting.terminal import result_lines

LABELS = {"me_gd": "ME+GD"}


def measured(metric, task_id, value, low=None, high=None):
    low, high = value if low is None else low, value if high is None else high
    values = {"metric": metric, "task_id": task_id, "value": value, "ci_low": low, "ci_high": high}
    return values | {"terms": f"rouge of {task_id or 'retain'}", "reason": ""}


def p_value(task_id, value):
    return measured("forget_quality", task_id, value, np.nan, np.nan)


@pytest.fixture
def summary():
    """Two tasks; the first comes back a little after the second."""
    return results.stack_cells(
        {
            "continual.before": pd.DataFrame(
                [
                    measured("model_utility", 0, 0.9),
                    measured("forget_efficacy", 1, 0.1),
                    measured("forget_efficacy", 2, 0.3),
                    measured("tofu_model_utility", 0, 0.95, 0.9, 0.97),
                    p_value(1, 1e-5),
                    p_value(2, 1e-6),
                ]
            ),
            "continual.me_gd.task_01": pd.DataFrame(
                [
                    measured("model_utility", 0, 0.8, 0.7, 0.85),
                    measured("forget_efficacy", 1, 0.6, 0.5, 0.7),
                    measured("tofu_model_utility", 0, 0.75),
                    p_value(1, 0.4),
                ]
            ),
            "continual.me_gd.task_02": pd.DataFrame(
                [
                    measured("model_utility", 0, 0.7),
                    measured("forget_efficacy", 1, 0.4, 0.34, 0.44),
                    measured("forget_efficacy", 2, 0.8, 0.72, 0.83),
                    measured("tofu_model_utility", 0, 0.65),
                    p_value(1, 0.2),
                    p_value(2, 0.03),
                ]
            ),
        }
    )


@pytest.fixture
def with_retain_only(summary):
    """The same beside a model that was never trained on what is forgotten."""
    lines = pd.DataFrame(
        [
            measured("model_utility", 0, 0.88),
            measured("forget_efficacy", 1, 0.7),
            measured("forget_efficacy", 2, 0.9),
            measured("tofu_model_utility", 0, 0.93),
            p_value(1, np.nan),
            p_value(2, np.nan),
        ]
    )
    return pd.concat([summary, results.stack_cells({"continual.retain_only": lines})])


class TestStackCells:
    def test_cells_become_method_and_number_of_tasks(self, summary):
        cells = summary[["method", "after_task"]].drop_duplicates().to_numpy().tolist()
        assert cells == [["before", 0], ["me_gd", 1], ["me_gd", 2]]
        assert len(summary) == 16

    def test_cells_may_be_stacked_method_by_method(self, summary):
        lines = pd.DataFrame([measured("model_utility", 0, 0.9)])
        cells = {
            "continual.before": lines,
            "continual.me_gd.task_01": lines,
            "continual.me_gd.task_02": lines,
        }
        of_method = {
            name: cells[name] for name in ("continual.me_gd.task_01", "continual.me_gd.task_02")
        }
        stacked = results.stack_cells(
            {"continual.before": lines, "continual.me_gd": results.stack_cells(of_method)}
        )
        pd.testing.assert_frame_equal(stacked, results.stack_cells(cells))

    def test_a_retain_only_model_has_unlearned_nothing(self, with_retain_only):
        cell = with_retain_only[with_retain_only["method"] == results.RETAIN_ONLY]
        assert set(cell["after_task"]) == {0}

    def test_method_and_number_stand_first(self, summary):
        columns = ["method", "after_task", "metric", "task_id", "value", "ci_low", "ci_high"]
        assert list(summary.columns) == [*columns, "terms", "reason"]


class TestSelections:
    def test_utility_and_efficacy_are_of_the_method_asked_for(self, summary):
        assert results.utility(summary, "me_gd")["value"].tolist() == [0.8, 0.7]
        assert results.efficacy(summary, "me_gd")["value"].tolist() == [0.6, 0.4, 0.8]

    def test_current_tasks_are_those_just_unlearned(self, summary):
        assert results.current_tasks(summary, "me_gd")["value"].tolist() == [0.6, 0.8]

    def test_current_tasks_before_unlearning_are_all(self, summary):
        assert results.current_tasks(summary, "before")["value"].tolist() == [0.1, 0.3]


class TestAverageTasks:
    def test_distances_of_the_bounds_add_in_quadrature(self):
        tasks = pd.DataFrame([measured("", 1, 0.4, 0.34, 0.44), measured("", 2, 0.8, 0.72, 0.83)])
        # below: sqrt(0.06 ** 2 + 0.08 ** 2) / 2, above: sqrt(0.04 ** 2 + 0.03 ** 2) / 2
        expected = {"value": 0.6, "ci_low": 0.55, "ci_high": 0.625}
        assert results.average_tasks(tasks) == pytest.approx(expected)

    def test_one_task_keeps_its_interval(self):
        task = pd.DataFrame([measured("", 1, 0.4, 0.3, 0.6)])
        expected = {"value": 0.4, "ci_low": 0.3, "ci_high": 0.6}
        assert results.average_tasks(task) == pytest.approx(expected)

    def test_a_task_without_a_value_is_left_out(self):
        tasks = pd.DataFrame([measured("", 1, 0.4, 0.3, 0.6), measured("", 2, np.nan)])
        assert results.average_tasks(tasks)["value"] == 0.4

    def test_without_an_interval_of_each_there_is_none(self):
        tasks = pd.DataFrame([measured("", 1, 0.4, 0.3, 0.6), measured("", 2, 0.8, np.nan, np.nan)])
        average = results.average_tasks(tasks)
        assert average["value"] == pytest.approx(0.6)
        assert np.isnan([average["ci_low"], average["ci_high"]]).all()

    def test_no_value_at_all_is_nan(self):
        average = results.average_tasks(pd.DataFrame([measured("", 1, np.nan)]))
        assert set(average) == {"value", "ci_low", "ci_high"}
        assert np.isnan(list(average.values())).all()


class TestFinalMetrics:
    def test_takes_the_last_task_and_averages_forget_sets(self):
        rows = [
            ("me_gd", 1, "forget", 1, 0.9),
            ("me_gd", 2, "forget", 1, 0.2),
            ("me_gd", 2, "forget", 2, 0.4),
            ("me_gd", 2, "retain", 0, 0.7),
            ("before", 0, "retain", 0, 1.0),
        ]
        metrics = pd.DataFrame(rows, columns=["method", "after_task", "split", "task_id", "value"])
        metrics = metrics.assign(metric="rouge", ci_low=metrics["value"], ci_high=metrics["value"])
        final = results.final_metrics(metrics, "me_gd").set_index("split")["value"]
        assert final.to_dict() == pytest.approx({"forget": 0.3, "retain": 0.7})


class TestSummaryTable:
    def test_one_row_before_and_one_a_task(self, summary):
        table = results.summary_table(summary, LABELS)
        assert table["method"].tolist() == ["before", "ME+GD", "ME+GD"]
        assert table["after_task"].tolist() == [0, 1, 2]
        assert table["model_utility"].tolist() == [0.9, 0.8, 0.7]

    def test_efficacy_of_this_task_and_of_all_so_far(self, summary):
        table = results.summary_table(summary, LABELS)
        assert table["forget_efficacy"].tolist() == pytest.approx([0.2, 0.6, 0.8])
        so_far = table["forget_efficacy_of_tasks_so_far"].tolist()
        assert so_far == pytest.approx([0.2, 0.6, 0.6])

    def test_bounds_stand_beside_each_number(self, summary):
        after_one, after_two = results.summary_table(summary, LABELS).iloc[1:].to_dict("records")
        assert (after_one["model_utility_low"], after_one["model_utility_high"]) == (0.7, 0.85)
        assert after_two["forget_efficacy_low"] == pytest.approx(0.72)
        assert after_two["forget_efficacy_of_tasks_so_far_low"] == pytest.approx(0.55)
        assert after_two["forget_efficacy_of_tasks_so_far_high"] == pytest.approx(0.625)

    def test_columns_are_those_announced_with_their_bounds(self, summary):
        names = [f"{n}{end}" for n in results.SUMMARY_COLUMNS for end in ("", "_low", "_high")]
        names += ["model_utility_terms", "forget_efficacy_terms", "reasons"]
        assert list(results.summary_table(summary, LABELS)) == ["method", "after_task", *names]

    def test_terms_are_those_of_each_number_in_the_row(self, summary):
        table = results.summary_table(summary, LABELS)
        assert table["model_utility_terms"].tolist() == ["rouge of retain"] * 3
        efficacy = table["forget_efficacy_terms"].tolist()
        assert efficacy == ["rouge of 1; rouge of 2", "rouge of 1", "rouge of 2"]

    def test_reasons_are_named_once_each_with_their_number(self, with_retain_only):
        is_quality = with_retain_only["metric"] == "forget_quality"
        reason = np.where(is_quality, "no scores", "")
        reasons = results.summary_table(with_retain_only.assign(reason=reason), LABELS)["reasons"]
        quality = "forget_quality: no scores"
        assert reasons.tolist() == [quality, "", quality, quality]  # retain-only: with itself

    def test_forget_quality_is_of_the_task_just_unlearned_and_has_no_interval(self, summary):
        table = results.summary_table(summary, LABELS)
        quality = table["forget_quality"].tolist()
        assert quality == pytest.approx([np.nan, 0.4, 0.03], nan_ok=True)
        assert table[["forget_quality_low", "forget_quality_high"]].isna().all(axis=None)

    def test_forget_quality_before_is_that_of_the_only_task(self, summary):
        one_task = summary[(summary["task_id"] < 2) & (summary["after_task"] < 2)]
        quality = results.summary_table(one_task, LABELS)["forget_quality"].tolist()
        assert quality == [1e-5, 0.4]

    def test_forget_quality_that_was_not_measured_is_missing(self, summary):
        summary.loc[summary["metric"] == "forget_quality", "value"] = np.nan
        assert results.summary_table(summary, LABELS)["forget_quality"].isna().all()

    def test_utility_as_tofu_has_it_stands_with_its_bounds(self, summary):
        table = results.summary_table(summary, LABELS)
        assert table["tofu_model_utility"].tolist() == [0.95, 0.75, 0.65]
        before = table.iloc[0]
        bounds = (before["tofu_model_utility_low"], before["tofu_model_utility_high"])
        assert bounds == (0.9, 0.97)

    def test_a_retain_only_model_follows_the_model_before(self, with_retain_only):
        table = results.summary_table(with_retain_only, LABELS)
        assert table["method"].tolist() == ["before", "retain-only", "ME+GD", "ME+GD"]
        row = table.iloc[1]
        assert (row["after_task"], row["model_utility"]) == (0, 0.88)
        assert row["forget_efficacy"] == pytest.approx(0.8)  # the mean over all tasks
        assert np.isnan(row["forget_quality"])

    def test_a_method_without_label_is_left_out(self, summary):
        assert results.summary_table(summary, {})["method"].tolist() == ["before"]


class TestTruthRatiosOfStoredScores:
    def test_become_rows_of_a_retain_only_model(self):
        rows = {"after_task": 0, "split": "forget", "task_id": [1, 2], "row_id": ["a", "b"]}
        row_metrics = pd.DataFrame({"method": "before", **rows, "truth_ratio": [4.0, 3.0]})
        stored = pd.DataFrame(
            {"split": "forget", "row_id": ["b", "a", "other"], "truth_ratio": [0.5, 0.25, 9.0]}
        )
        table = results.add_retain_only(row_metrics, stored)
        added = table[table["method"] == "retain_only"].sort_values("row_id")
        assert added["truth_ratio"].tolist() == [0.25, 0.5]
        assert added["task_id"].tolist() == [1, 2]
        assert len(table) == 4


class TestFingerprints:
    QUESTIONS = pd.DataFrame({"question": ["Who?"], "wrong_answers": [["a", "b"]]})

    def test_are_named_as_a_reader_knows_them(self):
        cells = {
            "continual.before": "f00",
            "continual.retain_only": "f11",
            "continual.me_gd.task_02": "f22",
        }
        cells = {cell: pd.DataFrame({"sha256": [sha256]}) for cell, sha256 in cells.items()}
        table = results.fingerprints(self.QUESTIONS, cells, LABELS)
        assert table["what"].tolist() == ["questions", "before", "retain-only", "ME+GD"]
        assert table["sha256"].tolist()[1:] == ["f00", "f11", "f22"]

    def test_of_questions_change_with_any_text(self):
        def of(questions):
            return results.fingerprints(questions, {}, LABELS)["sha256"].item()

        assert of(self.QUESTIONS) == of(self.QUESTIONS.copy())
        assert of(self.QUESTIONS) != of(self.QUESTIONS.assign(wrong_answers=[["a", "c"]]))
        assert len(of(self.QUESTIONS)) == 64


SEED_VALUES = {1002: (0.8, (0.6, 0.4)), 1001: (0.6, (0.4, 0.4))}
"""MU, and FE of two tasks after the second; the first seed is not the smallest."""


@pytest.fixture
def seeded():
    """A method with two seeds and two tasks, beside the model before."""
    lines = [measured("model_utility", 0, 0.9), measured("forget_efficacy", 1, 0.1)]
    cells = {"continual.before": [*lines, measured("forget_efficacy", 2, 0.1)]}
    for seed, (kept, forgotten) in SEED_VALUES.items():
        tasks = [measured("forget_efficacy", task + 1, fe) for task, fe in enumerate(forgotten)]
        cells[f"continual.me_gd.seed_{seed}.task_02"] = [
            measured("model_utility", 0, kept, kept - 0.1, kept + 0.1),
            *tasks,
        ]
    return results.stack_cells({name: pd.DataFrame(lines) for name, lines in cells.items()})


class TestSeeds:
    def test_are_a_column_that_models_of_no_seed_lack(self, seeded, summary):
        assert seeded["seed"].dropna().unique().tolist() == [1002, 1001]
        assert seeded.loc[seeded["method"] == "before", "seed"].isna().all()
        assert "seed" not in summary

    def test_are_averaged_cell_by_cell(self, seeded):
        table = results.over_seeds(seeded)
        assert "seed" not in table
        kept = results.utility(table, "me_gd").iloc[0]
        assert (kept["value"], kept["ci_low"], kept["n_seeds"]) == pytest.approx((0.7, 0.6, 2))
        assert len(results.efficacy(table, "me_gd")) == 2
        assert results.utility(table, "before")["seed_low"].isna().all()

    def test_a_table_without_any_is_its_own_average(self, summary):
        assert results.over_seeds(summary) is summary
        assert results.first_seed(summary) is summary

    def test_result_table_is_the_mean_of_their_tables(self, seeded):
        row = results.summary_table(seeded, LABELS).set_index("method").loc["ME+GD"]
        assert row["model_utility"] == pytest.approx(0.7)
        # FE of all tasks so far: 0.5 and 0.4, so that their mean is off by 12.7 * 0.05.
        so_far = "forget_efficacy_of_tasks_so_far"
        assert row[so_far] == pytest.approx(0.45)
        assert row[f"{so_far}_seed_high"] == pytest.approx(0.45 + 12.706205 * 0.05)
        assert row["n_seeds"] == 2
        assert "forget_quality_seed_low" not in row

    def test_each_has_rows_of_its_own(self, seeded):
        table = results.seed_table(seeded, LABELS)
        assert table["seed"].fillna(0).tolist() == [0, 1002, 1001]
        assert table["model_utility"].tolist() == [0.9, 0.8, 0.6]
        assert results.first_seed(table)["model_utility"].tolist() == [0.9, 0.8]

    def test_the_first_is_that_of_texts_and_models(self, seeded):
        first = results.first_seed(seeded)
        assert set(first["method"]) == {"before", "me_gd"}
        assert results.utility(first, "me_gd")["value"].tolist() == [0.8]

    def test_membership_is_averaged_too(self):
        told = pd.DataFrame(
            [{"score": "loss", "task_id": 0, "auc": 0.5, "ci_low": 0.4, "ci_high": 0.6}]
        ).assign(privleak=-10.0, reason="")
        other = told.assign(auc=0.7, privleak=10.0)
        names = [f"continual.me_gd.seed_{seed}.task_01" for seed in (1001, 1002)]
        stacked = results.stack_cells(dict(zip(names, (told, other), strict=True)))
        (row,) = results.over_seeds(stacked).to_dict("records")
        assert (row["auc"], row["privleak"]) == pytest.approx((0.6, 0.0))

    def test_the_last_model_of_each_has_its_hash(self):
        table = pd.DataFrame({"sha256": ["a", "b", "c", "d"], "seed": [1001, 1001, 1002, 1002]})
        models = {"continual.me_gd": table.assign(after_task=[1, 2, 1, 2])}
        hashes = results.fingerprints(pd.DataFrame({"row_id": []}), models, LABELS)
        assert hashes.set_index("what")["sha256"].to_dict().items() >= {
            ("ME+GD, seed 1001", "b"),
            ("ME+GD, seed 1002", "d"),
        }

    def test_the_terminal_tells_both_means_and_how_far_seeds_differ(self, seeded):
        lines = result_lines(results.summary_table(seeded, LABELS))
        assert "Means over 2 seeds; ± is half of a 95 % interval over seeds" in lines
        head, before, after = lines[-1].splitlines()[1:]
        assert head.split()[2:4] == ["MU", "±"]
        assert before.split()[:3] == ["before", "0", "0.900"]
        assert after.split()[:4] == ["ME+GD", "2", "0.700", "1.271"]  # 12.7 * 0.1

    def test_the_terminal_speaks_of_no_means_where_there_is_one(self, seeded):
        one = results.first_seed(seeded)
        text = "\n".join(result_lines(results.summary_table(one, LABELS)))
        assert "seeds" not in text
        assert "±" not in text


def test_every_stage_has_a_label():
    from closer_look import pipelines

    packages = {module.name for module in pkgutil.iter_modules(pipelines.__path__)}
    assert packages - {"scenarios", "measurement"} == set(results.STAGES)


def generated(*answers):
    rows = [("forget", 1, "a"), ("retain", 0, "a"), ("retain", 0, "b")]
    table = pd.DataFrame(rows, columns=["split", "task_id", "row_id"])
    return table.assign(question="Who?", reference="She.", generated=answers, n_tokens=1)


class TestAnswersTable:
    def test_answers_stand_side_by_side_by_split_and_row(self):
        after = generated("1", "2", "3").iloc[::-1]
        cells = {"continual.before": generated("x", "y", "z"), "continual.me_gd.task_02": after}
        table = results.answers_table(cells, LABELS)
        assert list(table.columns) == [
            *("split", "task_id", "row_id", "question", "reference", "before", "ME+GD")
        ]
        assert table["before"].tolist() == ["x", "y", "z"]
        assert table["ME+GD"].tolist() == ["1", "2", "3"]

    def test_a_row_that_a_method_lacks_is_kept(self):
        cells = {
            "continual.before": generated("x", "y", "z"),
            "continual.me_gd.task_02": generated("1", "2", "3")[:1],
        }
        answers = results.answers_table(cells, LABELS)["ME+GD"]
        assert answers.iloc[0] == "1"
        assert answers.isna().tolist() == [False, True, True]


class TestPickExamples:
    def test_rows_at_even_distances(self):
        rows = pd.DataFrame({"row": range(10)})
        assert results.pick_examples(rows, 4)["row"].tolist() == [0, 3, 6, 9]

    def test_no_row_twice_when_there_are_few(self):
        rows = pd.DataFrame({"row": range(2)})
        assert results.pick_examples(rows, 4)["row"].tolist() == [0, 1]

    def test_no_rows_give_none(self):
        assert results.pick_examples(pd.DataFrame({"row": []}), 4).empty


class TestLoggedTable:
    """What ``tabulate_summary`` writes for whoever waits at a terminal."""

    @pytest.fixture
    def printed(self, caplog):
        def printed(summary, **labels):
            with caplog.at_level("INFO", logger=nodes.__name__):
                table = nodes.tabulate_summary(summary, **labels)
            return table, caplog.messages[-1].splitlines()[1:]

        return printed

    def test_shows_a_p_value_however_small(self, printed, with_retain_only):
        with_retain_only.loc[with_retain_only["value"] == 0.03, "value"] = 2.19e-16
        table, lines = printed(with_retain_only, **LABELS)
        assert lines[0].split() == ["method", "task", "MU", "FE", "FE", "so", "far", "FQ"]
        assert lines[1].split() == ["before", "0", "0.900", "0.200", "0.200"]
        assert lines[2].split() == ["retain-only", "0", "0.880", "0.800", "0.800"]
        assert lines[-1].split() == ["ME+GD", "2", "0.700", "0.800", "0.600", "2.2e-16"]
        assert table["forget_quality"].iloc[-1] == 2.19e-16

    def test_says_what_the_numbers_hold(self, printed, summary, caplog):
        printed(summary, **LABELS)
        said = ["MU holds rouge of retain", "FE holds rouge of 1; rouge of 2"]
        assert caplog.messages[:-1] == [*said, "FE holds rouge of 1", "FE holds rouge of 2"]

    def test_leaves_out_forget_quality_where_there_is_none(self, printed, summary):
        _, lines = printed(summary[summary["metric"] != "forget_quality"], **LABELS)
        assert lines[0].split() == ["method", "task", "MU", "FE", "FE", "so", "far"]

    def test_a_long_table_is_of_the_last_task_and_the_best_come_first(self, printed, summary):
        rows = summary[summary["method"] == "me_gd"]
        labels = {f"m{n:02}": f"M{n:02}" for n in range(12)}
        many = [rows.assign(method=m, value=0.01 * n) for n, m in enumerate(labels)]
        table, lines = printed(pd.concat([summary[summary["method"] == "before"], *many]), **labels)
        assert len(table) > len(lines) == 1 + 1 + 12
        assert [line.split()[0] for line in lines[1:4]] == ["before", "M11", "M10"]
        assert {line.split()[1] for line in lines[2:]} == {"2"}

    def test_fits_into_a_terminal(self, printed, with_retain_only):
        _, lines = printed(with_retain_only, me_gd="A method with a long name")
        assert max(map(len, lines)) <= 80
        assert any("A method with a long name" in line for line in lines)
