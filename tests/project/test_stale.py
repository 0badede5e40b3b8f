"""Every kind of change: does it make the results of a finished run stale, as it should?"""

import importlib
import json
import shutil
from functools import cache

import pytest
from kedro.framework.project import pipelines

from closer_look.datasets.provenance_dataset import ProvenanceDataset
from closer_look.errors import InputError
from closer_look.losses import FORGET
from closer_look.parameters.training import UnlearningParameters
from closer_look.pipelines.forget_set.nodes import draw_plans
from closer_look.project import dependencies
from closer_look.project.provenance import History
from closer_look.system import code

METHODS = ["ga_gd", "me_gd", "idk_ap"]  # of conf/test
TARGET = "06_models/test/target"


@pytest.fixture(scope="module")
def load(open_session):
    """The catalog and the pipelines of a run."""

    @cache
    def as_it_is(data):
        return load(data, None)

    def load(data, parameters):
        with open_session(data, parameters) as session:
            catalog = session.load_context().catalog
            return catalog, dict(pipelines)

    return lambda data, parameters: load(data, parameters) if parameters else as_it_is(data)


@pytest.fixture
def difference(load, monkeypatch):
    """What a run with all results at hand would refuse, of the finished run as it is now."""

    def difference(data, parameters=None, entries=None):
        catalog, known = load(data, parameters)
        for name, changes in (entries or {}).items():
            dataset = catalog[name]
            given = dataset._init_args | dataset._init_args.get("arguments", {}) | changes
            given.pop("arguments")
            monkeypatch.setitem(catalog._datasets, name, type(dataset)(**given))
        try:
            return History(catalog, known.values()).check(set(), set(known["continual"].nodes))
        except InputError as error:
            return str(error)

    return difference


@pytest.fixture
def edit(monkeypatch, tmp_path):
    """Edit the source of a module, as the fingerprints of code read it."""

    def edit(module, was, now, *, is_read_anew=True):
        source = code._source
        path = source(module)
        text = path.read_text(encoding="utf-8")
        assert was in text, f"{module} no longer has {was}"
        edited = tmp_path / path.name
        edited.write_text(text.replace(was, now, 1), encoding="utf-8")
        monkeypatch.setattr(code, "_source", lambda one: edited if one == module else source(one))
        if is_read_anew:
            read_anew()

    yield edit
    monkeypatch.undo()
    read_anew()


def read_anew():
    """Have all code read as it is now, as a new process does."""
    for cached in (code._reached, code._definitions, code._imports, code._resolve):
        cached.cache_clear()


def test_a_finished_run_is_up_to_date(difference, whole_run):
    assert difference(whole_run.data) == ""


@pytest.mark.parametrize(
    ("module", "was", "now", "stale"),
    [
        # code of nodes, losses, datasets, parameters
        ("losses.forget", "return -", "return - 2 *", "other code of loss gradient_ascent"),
        ("training.trainer", "return sum(losses)", "return losses[0]", "other code of"),
        ("datasets.raw_rows", "self._task_id is not None", "self._task_id", "dataset Questions"),
        ("datasets.lines", "line.strip()", "line.lstrip()", "dataset QuestionsDataset"),
        ("models.language_model", "=False", "=0", "other code of"),
        ("datasets.causal_lm_dataset", "partial.rename(", "partial.move(", "dataset CausalLMData"),
        ("parameters.training", "self.warmup_epochs >= self.epochs", "False", "other code of"),
        # what changes no number
        ("losses.forget", '"""', '"""Or so. ', None),
        ("training.trainer", "import math", "import math  # or so", None),
        ("parameters.training", "weight_decay: NonNegativeFloat = 0.01", "more: int = 1", None),
        ("parameters.training", "checkpoint_minutes", "minutes_between_checkpoints", None),
        ("datasets.raw_rows", "self.load().head(nrows)", "self.load().tail(nrows)", None),
        ("losses.forget", "def npo(", "def npo_of_another_time(", None),  # no method of the run's
    ],
)
def test_code(difference, whole_run, edit, module, was, now, stale):
    edit(f"closer_look.{module}", was, now)
    found = difference(whole_run.data)
    assert (stale in found) if stale else found == ""


def test_code_that_is_edited_as_a_run_works_is_not_what_ran(kedro_run, edit, tmp_path, monkeypatch):
    lines, save, began_with = [], ProvenanceDataset.save, code.code_fingerprint(draw_plans)

    def save_and_edit(self, line):
        save(self, line)
        if not lines:
            edit("closer_look.data.planning", "generator.", "other.", is_read_anew=False)
        lines.append(line)

    monkeypatch.setattr(ProvenanceDataset, "save", save_and_edit)
    read_anew()
    kedro_run(tmp_path, "forget_set")
    assert {line["node"] for line in lines[:2]} == {"collect_questions"}
    assert lines[-1]["node"] == "draw_plans"
    assert lines[-1]["code"].items() >= began_with.items()


def test_table_of_losses(difference, whole_run, monkeypatch):
    monkeypatch.setitem(FORGET, "gradient_ascent", FORGET["maximum_entropy"])
    assert "other code of loss gradient_ascent" in difference(whole_run.data)
    monkeypatch.undo()
    monkeypatch.setitem(FORGET, "mine", FORGET["maximum_entropy"])
    assert difference(whole_run.data) == ""


@pytest.mark.parametrize(
    ("field", "default", "stale"),
    [
        ("max_grad_norm", 2.0, "unlearning.max_grad_norm 1.0, which is 2.0 now"),
        ("weight_decay", 0.5, None),  # conf/ gives it
        ("checkpoint_minutes", 5, None),
    ],
)
def test_default_of_a_parameter(difference, whole_run, monkeypatch, field, default, stale):
    known = UnlearningParameters.model_fields[field].default
    assert known != default
    try:
        UnlearningParameters.model_fields[field].default = default
        UnlearningParameters.model_rebuild(force=True)
        found = difference(whole_run.data, {"experiment": {"n_tasks": 2}})  # read anew
    finally:
        UnlearningParameters.model_fields[field].default = known
        UnlearningParameters.model_rebuild(force=True)
    assert (stale in found) if stale else found == ""


@pytest.mark.parametrize(
    ("parameters", "stale"),
    [
        ({"unlearning": {"learning_rate": 0.002}}, "unlearning.learning_rate 0.0005, which is"),
        ({"methods": {"me_gd": {"forget": {"weight": 2}}}}, "methods.me_gd.forget.weight"),
        ({"prompt": {"system": "Answer."}}, "prompt.system"),
        ({"judges": {"entailment": None}}, "judges.entailment"),
        ({"unlearning": {"checkpoint_minutes": 5}}, None),
        ({"experiment": {"on_other_versions": "refuse"}}, None),
    ],
)
def test_parameter(difference, whole_run, parameters, stale):
    found = difference(whole_run.data, parameters)
    assert (stale in found) if stale else found == ""


def test_label_of_a_method_concerns_tables_and_figures_alone(difference, whole_run):
    found = difference(whole_run.data, {"methods": {"me_gd": {"label": "Entropy"}}})
    nodes = found.partition("--from-nodes=")[2].partition(" ")[0].split(",")
    assert nodes
    assert not [node for node in nodes if node.count(".") > 1]


@pytest.mark.parametrize(
    ("entry", "changes", "stale"),
    [
        ("raw_retain", {"split": "forget"}, "raw_retain.split"),
        ("raw_forget", {"task_id": 1}, "raw_forget.task_id"),
        ("raw_retain", {"filepath": "data/01_raw/invented_people/forget.jsonl"}, "another raw_ret"),
        ("raw_retain", {"source": "somewhere"}, None),  # for an error alone
        ("raw_retain", {"metadata": {"kedro-viz": {"layer": "x"}}}, None),
    ],
)
def test_catalog_entry(difference, whole_run, entry, changes, stale):
    found = difference(whole_run.data, entries={entry: changes})
    assert (stale in found) if stale else found == ""


def test_the_same_rows_elsewhere_are_the_same(difference, whole_run, root, tmp_path):
    corpus = shutil.copytree(root / "data/01_raw/invented_people", tmp_path / "rows")
    assert difference(whole_run.data, {"corpus": str(corpus)}) == ""
    with (corpus / "refusals.txt").open("a", encoding="utf-8") as file:
        file.write("No idea.\n")
    assert "another refusals than" in difference(whole_run.data, {"corpus": str(corpus)})


def test_file_of_a_model(difference, copied_run):
    template = copied_run / TARGET / "chat_template.jinja"
    template.write_text(template.read_text("utf-8") + " ", encoding="utf-8")
    assert "target_model is not what was made" in difference(copied_run)


def test_library(difference, whole_run, kedro_run, copied_run, monkeypatch, caplog):
    versions = dependencies.library_versions()
    changed = versions | {"transformers": "99.0"}
    for module in ("dependencies", "provenance"):
        place = importlib.import_module(f"closer_look.project.{module}")
        monkeypatch.setattr(place, "library_versions", lambda: changed)
    made = f"were made with transformers {versions['transformers']} (now 99.0)"
    assert made in difference(whole_run.data)
    refuse = {"experiment": {"on_other_versions": "refuse"}}
    assert kedro_run(copied_run, "continual", only_missing_outputs=True) == []
    assert made in caplog.text
    with pytest.raises(InputError, match=r"99\.0\); --params run=NAME begins another run"):
        kedro_run(copied_run, "continual", parameters=refuse, only_missing_outputs=True)


def test_old_version_of_a_table_that_holds_other_methods(kedro_run, copied_run):
    (version,) = next(copied_run.rglob("continual/summary.parquet")).iterdir()
    more = {"experiment": {"methods": [*METHODS, "npo_gd"], "n_tasks": 2}}
    with pytest.raises(InputError, match=r"holds before, ga_gd, idk_ap, me_gd, this run has bef"):
        kedro_run(
            copied_run,
            "continual",
            parameters=more,
            tags=["reporting"],
            load_versions={"continual.summary": version.name},
        )


def test_record_of_every_node_has_all_kinds(whole_run, load_result):
    records = load_result(whole_run.data, "provenance")
    kinds = {"parameters", "catalog", "code", "libraries", "inputs"}
    assert all(kinds <= set(record) for record in records)
    questions = next(record for record in records if record["node"] == "collect_questions")
    assert questions["catalog"]["raw_forget"] == {"split": "forget"}
    assert json.dumps(questions).count(str(whole_run.data)) == 0
