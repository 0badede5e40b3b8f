"""The leaderboard: where its numbers come from, and how it is written."""

import numpy as np
import pandas as pd
import pytest

from closer_look.reporting import leaderboard
from closer_look.reporting.figures_of_benchmark import ranking

PARAMETERS = {
    "benchmark": {"rank_by": "harmonic_mean"},
    "tuning": {"trials": 12, "objective": "forget_efficacy", "min_utility": 0.95},
}
LABELS = {"me_gd": "ME+GD", "idk_ap": "IDK|AP"}
SETTINGS = {"me_gd": "learning_rate 0.001, epochs 7"}


def number(name, value):
    return {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.05}


@pytest.fixture
def comparison():
    lines = [
        {"method": method, "rank": 1, "n_seeds": 2, "keeps_utility": True, "p_value": p_value}
        | number("score", score)
        | {"score_questions_low": score - 0.02, "score_questions_high": score + 0.02}
        | number("model_utility", 0.7)
        | number("forget_efficacy", 0.8)
        for method, score, p_value in (("idk_ap", 0.75, 0.0004), ("me_gd", 0.7, np.nan))
    ]
    return pd.DataFrame(lines)


@pytest.fixture
def summary_table():
    rows = [("before", 0, 0.9, 0.1, 0.1, np.nan)]
    rows += [("ME+GD", 1, 0.8, 0.6, 0.6, 0.5), ("ME+GD", 2, 0.7, 0.8, 0.8, 0.25)]
    rows += [("IDK|AP", 1, 0.8, 0.6, 0.5, np.nan), ("IDK|AP", 2, 0.7, 0.8, 0.8, np.nan)]
    columns = ["method", "after_task", "model_utility", "forget_efficacy"]
    return pd.DataFrame(
        rows, columns=[*columns, "forget_efficacy_of_tasks_so_far", "forget_quality"]
    )


@pytest.fixture
def tables(comparison, summary_table):
    """Two seeds and two tasks; what is measured of one method alone is missing of the other."""
    metrics = pd.DataFrame(
        [
            ("me_gd", after_task, seed, "forget", task, "extraction_strength", value)
            for seed, values in ((1001, (0.5, 0.1, 0.3)), (1002, (0.5, 0.3, 0.5)))
            for (after_task, task), value in zip(((1, 1), (2, 1), (2, 2)), values, strict=True)
        ],
        columns=["method", "after_task", "seed", "split", "task_id", "metric", "value"],
    ).assign(ci_low=0, ci_high=1)
    membership = pd.DataFrame(
        [
            (method, 2, score, task, auc)
            for method, of_method in (("me_gd", 0.6), ("me_gd", 0.7), ("idk_ap", np.nan))
            for score, task, auc in (("loss", 0, 0.9), ("min_k", 1, 0.8), ("min_k", 0, of_method))
        ],
        columns=["method", "after_task", "score", "task_id", "auc"],
    )
    costs = [("continual.me_gd.seed_1001.task_01.unlearn", "unlearning", 10, 2e9)]
    costs += [("continual.me_gd.seed_1001.task_02.score_reference", "reference", 4, 1e9)]
    costs += [("continual.me_gd.seed_1002.task_01.unlearn", "unlearning", 20, 3e9)]
    costs += [("continual.me_gd.seed_1002.task_03.unlearn", "unlearning", 99, 9e9)]  # earlier run
    costs += [("continual.me_gd.seed_1002.task_02.generate", "generation", 99, 9e9)]
    costs += [("continual.idk_ap.seed_1001.task_01.unlearn", "unlearning", 8, 1e9)]
    costs += [("finetune", "finetuning", 50, 5e9)]
    node_costs = pd.DataFrame(costs, columns=["node", "stage", "seconds", "peak_memory"])
    return {
        "comparison": comparison,
        "summary_table": summary_table,
        "metrics": metrics,
        "membership": membership,
        "node_costs": node_costs.assign(peak_gpu_memory=np.nan),
        "labels": LABELS,
        "settings": SETTINGS,
    }


@pytest.fixture
def table(tables):
    return leaderboard.leaderboard(**tables)


def of(table, method):
    return table.set_index("method").loc[method]


class TestNumbers:
    def test_lines_are_in_the_order_of_the_comparison(self, table):
        assert table["method"].tolist() == ["IDK|AP", "ME+GD"]
        assert table["score"].tolist() == [0.75, 0.7]

    def test_fe_over_time_is_the_mean_over_the_tasks(self, table):
        assert of(table, "ME+GD")["forget_efficacy_over_time"] == pytest.approx(0.7)
        assert of(table, "IDK|AP")["forget_efficacy_over_time"] == pytest.approx(0.65)

    def test_forget_quality_is_that_of_the_last_task(self, table):
        assert of(table, "ME+GD")["forget_quality"] == 0.25

    def test_forget_quality_that_the_last_task_lacks_is_missing(self, tables):
        results = tables["summary_table"]
        quality = np.where(results["after_task"] == 2, np.nan, 0.5)
        lacking = results.assign(forget_quality=quality)
        table = leaderboard.leaderboard(**tables | {"summary_table": lacking})
        assert table["forget_quality"].isna().all()

    def test_extraction_strength_is_the_mean_over_tasks_and_seeds_at_the_end(self, table):
        assert of(table, "ME+GD")["extraction_strength"] == pytest.approx(0.3)

    def test_extraction_strength_that_a_seed_lacks_is_missing(self, tables):
        metrics = tables["metrics"]
        lacking = metrics[(metrics["seed"] == 1001) | (metrics["after_task"] == 1)]
        table = leaderboard.leaderboard(**tables | {"metrics": lacking})
        assert np.isnan(of(table, "ME+GD")["extraction_strength"])

    def test_membership_is_that_of_min_k_over_all_tasks(self, table):
        assert of(table, "ME+GD")["membership_auc"] == pytest.approx(0.65)

    def test_costs_are_those_of_making_the_models_of_one_seed(self, table):
        assert of(table, "ME+GD")["seconds"] == pytest.approx((10 + 4 + 20) / 2)
        assert of(table, "ME+GD")["peak_memory"] == 3e9
        assert of(table, "IDK|AP")["seconds"] == 8

    def test_memory_of_a_gpu_counts_where_there_is_one(self, tables):
        costs = tables["node_costs"].assign(peak_gpu_memory=7e9)
        table = leaderboard.leaderboard(**tables | {"node_costs": costs})
        assert of(table, "ME+GD")["peak_memory"] == 7e9

    def test_residual_knowledge_where_there_were_attacks(self, tables):
        residual = pd.DataFrame({"method": ["before", "me_gd"], "value": [1, 0.4]})
        table = leaderboard.leaderboard(**tables, residual=residual)
        assert of(table, "ME+GD")["residual_knowledge"] == 0.4

    def test_without_membership_inference_there_is_no_auc(self, tables):
        table = leaderboard.leaderboard(**tables | {"membership": None})
        assert table["membership_auc"].isna().all()

    def test_what_was_not_measured_is_missing(self, table):
        missing = ["forget_quality", "extraction_strength", "membership_auc", "settings"]
        assert of(table, "IDK|AP")[missing].isna().all()
        assert table["residual_knowledge"].isna().all()


def test_settings_are_those_of_the_best_trial():
    trials = pd.DataFrame(
        [
            ("me_gd", 0, False, 5e-4, 5.0, np.nan),
            ("me_gd", 1, True, 0.00123456, 7.0, np.nan),
            ("npo_gd", 0, True, 2e-4, 3.0, "left"),
        ],
        columns=["method", "trial", "is_best", "learning_rate", "epochs", "side"],
    )
    spaces = pd.DataFrame(
        [("me_gd", "learning_rate"), ("me_gd", "epochs"), ("npo_gd", "epochs"), ("npo_gd", "side")],
        columns=["method", "parameter"],
    )
    assert leaderboard.best_settings(trials, spaces) == {
        "me_gd": "learning_rate 0.00123, epochs 7",
        "npo_gd": "epochs 3, side left",
    }


def test_a_large_whole_number_that_another_method_lacks_is_written_out():
    trials = pd.DataFrame(
        [{"method": "rmu", "is_best": True, "steps": 1234}, {"method": "me_gd", "is_best": True}]
    )
    spaces = pd.DataFrame([("rmu", "steps")], columns=["method", "parameter"])
    assert leaderboard.best_settings(trials, spaces) == {"rmu": "steps 1234"}


class TestWords:
    def test_columns_without_any_value_are_left_out(self, table):
        heads = [column.head for column in leaderboard.shown_columns(table)]
        assert "Residual" not in heads
        assert {"Method", "Rank", "Score", "FE over time", "FQ", "Time", "Trained with"} <= {*heads}

    def test_markdown_holds_intervals_and_escapes_what_would_break_the_table(self, table):
        head, _, first, second = leaderboard.markdown_table(table).splitlines()
        assert head.startswith("| Method | Rank | Score | p | MU | FE |")
        assert first.startswith(
            "| IDK\\|AP | 1 | 0.750 (0.70 to 0.80) | < 0.001".replace("<", "&lt;")
        )
        assert "learning_rate 0.001, epochs 7" in second
        assert second.count("|") == head.count("|")

    def test_text_says_what_the_numbers_are(self, table, summary_table):
        text = leaderboard.markdown(table, summary_table, PARAMETERS)
        assert "ranked by the harmonic mean of the two, the score, after the last task." in text
        assert "Before unlearning, MU is 0.900 and FE 0.100." in text
        assert "12 trials looked for the best settings" in text
        assert "for the highest FE that keeps 95 % of MU on questions that no number" in text
        assert "the mean over 2 seeds, but Memory is the most of any." in text
        attacked = leaderboard.markdown(
            table.assign(residual_knowledge=0.4), summary_table, PARAMETERS
        )
        assert "seeds, but Residual is of the first and Memory is the most of any." in attacked
        assert "Intervals are of 95 %, over questions and seeds" in text
        assert "- FE over time: the mean over the tasks" in text

    def test_one_seed_is_said_to_know_nothing_of_others(self, table, summary_table):
        by_efficacy = PARAMETERS | {"benchmark": {"rank_by": "forget_efficacy"}}
        words = leaderboard.describe_leaderboard(
            table.assign(n_seeds=1), summary_table, by_efficacy
        )
        assert "There is one seed: how far another training would differ is not known." in words[2]
        assert "by FE, and those that do not keep MU come last" in words[0]

    def test_terminal_has_a_line_for_each_method(self, table):
        lines = leaderboard.plain_table(table).splitlines()
        assert len(lines) == 3
        assert "learning_rate" not in lines[2]

    def test_a_table_read_back_from_csv_is_written_alike(self, table, tmp_path):
        table.to_csv(tmp_path / "board.csv", index=False)
        again = pd.read_csv(tmp_path / "board.csv")
        assert leaderboard.markdown_table(again) == leaderboard.markdown_table(table)


class TestFigure:
    def test_the_best_is_on_top_with_both_intervals(self, table):
        figure = ranking(table, LABELS)
        assert figure.layout.yaxis.categoryarray[-1] == "IDK|AP"
        band, mark = figure.data[:2]
        assert list(band.x) == pytest.approx([0.73, 0.77])
        assert mark.x[0] - mark.error_x.arrayminus[0] == pytest.approx(0.7)
