"""Paths of the catalog: the user's folder, and parameters that must stand in them."""

from pathlib import Path

import pytest
from kedro.framework.project import pipelines
from kedro.io import DataCatalog

from closer_look.errors import InputError
from closer_look.project.configuration import ConfigLoader, check_paths

TYPE = "closer_look.datasets.raw_rows.QuestionsDataset"


@pytest.fixture
def rows_of(open_session, tmp_path):
    """The entry raw_forget of a session with parameters."""

    def rows_of(parameters):
        with open_session(tmp_path, parameters) as session:
            return session.load_context().catalog.get("raw_forget")

    return rows_of


def test_every_session_knows_the_users_folder(rows_of, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "forget.csv").write_text("question,answer\nQ,A\n", encoding="utf-8")
    dataset = rows_of({"corpus": "~/rows"})
    assert dataset.sources() == [f"{tmp_path}/rows/forget.csv"]


def test_folder_of_all_artefacts_may_be_the_users(open_session, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with open_session("~/made") as session:
        catalog = session.load_context().catalog
        catalog.save("candidate_questions", catalog.load("raw_retain")[["question"]])
        assert catalog["target_model"].folder == tmp_path / "made/06_models/test/target"
    assert (tmp_path / "made/03_primary/test/candidate_questions.parquet").exists()


@pytest.fixture(scope="module")
def graph(open_session, tmp_path_factory):
    """Pipelines by their names."""
    with open_session(tmp_path_factory.mktemp("data")) as session:
        session.load_context()
        return {name: pipelines[name] for name in ("forget_set", "finetuning")}


@pytest.fixture
def check(graph, tmp_path):
    """Check parameters against an environment's own catalog, of which a file is written."""

    def check(text, name="forget_set", **given):
        for env in ("base", "mine"):
            (tmp_path / "conf" / env).mkdir(parents=True)
        base = Path(__file__).parents[2] / "conf" / "base"
        for file in ("catalog.yml", "globals.yml"):
            (tmp_path / "conf" / "base" / file).write_bytes((base / file).read_bytes())
        (tmp_path / "conf" / "mine" / "catalog.yml").write_text(text, encoding="utf-8")
        loader = ConfigLoader(
            str(tmp_path / "conf"), env="mine", base_env="base", runtime_params=given
        )
        check_paths(given, graph[name], DataCatalog.from_config(loader["catalog"]))

    return check


def own(path):
    """Entries of the rows, as an environment of one's own has them."""
    splits = ("forget", "retain", "real_authors", "world_facts")
    return "".join(
        f"raw_{split}: {{type: {TYPE}, split: {split}, filepath: '{path}/{split}.csv'}}\n"
        for split in splits
    )


def test_corpus_that_no_rows_are_read_from_is_refused(check):
    with pytest.raises(InputError) as caught:
        check(own("${globals:corpus}"), corpus="other/rows")
    assert str(caught.value) == (
        "parameter corpus: 'other/rows' is in no path of raw_forget, raw_real_authors and "
        "raw_retain; write ${runtime_params:corpus, ${globals:corpus}} there, in the catalog of "
        "the environment"
    )


def test_name_of_a_run_that_is_part_of_another_word_is_refused(check):
    fixed = "questions: {type: pandas.ParquetDataset, filepath: data/people.parquet}\n"
    fixed += '"plan_{task}": {type: pandas.ParquetDataset, filepath: "data/{task}/plan.parquet"}\n'
    fixed += '"evaluation_{task}": {type: pandas.ParquetDataset, filepath: "data/{task}.parquet"}\n'
    fixed += "holdout: {type: pandas.ParquetDataset, filepath: data/holdout.parquet}\n"
    fixed += "unknown_questions: {type: pandas.ParquetDataset, filepath: data/unknown.parquet}\n"
    with pytest.raises(InputError, match=r"^parameter run: 'eople' is in no path of evaluation_"):
        check(fixed, run="eople")


@pytest.mark.parametrize("corpus", ["rows", "./rows/", "~/rows", "../rows", "http://x.org/rows/"])
def test_corpus_that_is_read_passes_however_it_is_written(check, corpus):
    check(own("${runtime_params:corpus, ${globals:corpus}}"), corpus=corpus)


def test_corpus_passes_where_a_catalog_names_it_by_itself(check):
    check(own("my/rows"), corpus="my/rows", run="new", data="made")


def test_rows_that_no_node_reads_need_no_corpus(check):
    check(own("my/rows"), "finetuning", corpus="other")


def test_split_of_another_environment_is_refused(kedro_run, tmp_path):
    with pytest.raises(InputError, match=r"^parameter forget_split: 'forget05' is in no path of "):
        kedro_run(tmp_path, "forget_set", parameters={"forget_split": "forget05"})
    assert list(tmp_path.iterdir()) == []


def test_a_session_reads_a_kind_of_configuration_once(open_session, tmp_path, monkeypatch):
    """And gives each reader a copy of its own."""
    read = []
    original = ConfigLoader._load

    def load(loader, key):
        read.append(key)
        return original(loader, key)

    monkeypatch.setattr(ConfigLoader, "_load", load)
    with open_session(tmp_path) as session:
        loader = session.load_context().config_loader
        loader["parameters"]["experiment"].clear()
        assert "methods" in loader["parameters"]["experiment"]
    assert sorted(read) == sorted({*read})
