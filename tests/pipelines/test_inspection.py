"""``kedro run --pipelines inspect`` shows rows, trains nothing and disturbs no run."""

import logging

from kedro.framework.project import pipelines

from closer_look.parameters.experiment import Experiment
from closer_look.pipelines import inspection

OTHER = {"experiment": {"methods": ["npo_kl"], "n_tasks": 1}}


def test_it_writes_a_page_and_no_model(kedro_run, load_result, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO, "closer_look.datasets")
    ran = kedro_run(tmp_path, "inspect")
    assert ran == ["inspect.collect_questions", "inspect.show_rows"]
    results = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    records = {"provenance.jsonl", "node_costs.jsonl", "run.lock"}
    assert results - records == {"inspection.html"}
    page = load_result(tmp_path, "inspection")
    assert page._repr_html_() == page  # so a notebook shows it
    assert "read by GA+GD, ME+GD" in page
    printed = capsys.readouterr().out
    assert "read by GA+GD, ME+GD" in printed
    assert "<|end|>" in printed
    (message,) = [line for line in caplog.messages if line.endswith("inspection.html")]
    assert message.startswith("What would be trained")


def test_a_laptop_shows_what_a_gpu_would_train(kedro_run, published_rows, language_model, tmp_path):
    """In bf16 and with a model whose weights are not there: neither is asked for."""
    language_model.tokenizer.save_pretrained(tmp_path / "model")
    parameters = {
        "corpus": (published_rows / "tofu").as_posix(),
        "base_model": {"pretrained": (tmp_path / "model").as_posix()},
        "unlearning": {"precision": "bf16"},
    }
    kedro_run(tmp_path, "inspect", parameters=parameters, env="tofu")
    assert "[INST]" in (tmp_path / "08_reporting" / "tofu" / "inspection.html").read_text()


def test_a_finished_run_stays_as_it_is(kedro_run, copied_run):
    """Also where what is looked at has other parameters."""
    made = {path: path.stat().st_mtime_ns for path in copied_run.rglob("*.*") if path.is_file()}
    kedro_run(copied_run, "inspect", parameters=OTHER)
    changed = {path.name for path, time in made.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"provenance.jsonl", "node_costs.jsonl", "run.lock"}
    assert kedro_run(copied_run, "continual", only_missing_outputs=True) == []


def test_it_is_part_of_no_scenario(open_session, tmp_path):
    with open_session(tmp_path) as session:
        session.load_context()
        assert "inspection" in pipelines["inspect"].outputs()
        for name in ("__default__", "continual", "fictitious"):
            assert "inspection" not in pipelines[name].datasets()


def test_of_several_seeds_the_first_draws_the_rows():
    shape = {"methods": ["me_gd"], "n_tasks": 1, "splits": ["forget"], "seeds": [7, 8]}
    inputs = inspection.create_pipeline(Experiment.model_validate(shape)).inputs()
    assert [name for name in inputs if name.startswith("seed_")] == ["seed_7"]
