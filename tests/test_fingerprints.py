"""Fingerprints of files and of code."""

import os
from functools import partial, wraps

import pytest

from closer_look import fingerprints
from closer_look.fingerprints import code_fingerprint, fingerprint, loss_fingerprint, remember
from closer_look.losses import forget, nll
from closer_look.pipelines.finetuning.nodes import initialise
from closer_look.pipelines.forget_set.nodes import collect_questions
from closer_look.pipelines.metrics.nodes import measure_rows
from closer_look.pipelines.reporting.nodes import write_report
from closer_look.pipelines.unlearning.nodes import unlearn


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "inner" / "weights").write_text("1234")
    return tmp_path / "model"


def test_the_same_files_elsewhere_have_the_same_fingerprint(folder):
    before = fingerprint([str(folder)])
    moved = folder.rename(folder.with_name("moved"))
    assert fingerprint([str(moved)]).sha256 == before.sha256


@pytest.mark.parametrize("change", ["content", "name", "one more", "one less"])
def test_other_files_have_another_fingerprint(folder, change):
    before = fingerprint([str(folder)])
    weights = folder / "inner" / "weights"
    if change == "content":
        weights.write_text("1235")
    elif change == "name":
        weights.rename(weights.with_name("other"))
    elif change == "one more":
        (folder / "more").touch()
    else:
        weights.unlink()
    assert fingerprint([str(folder)]).sha256 != before.sha256


def test_a_folder_may_be_empty(tmp_path):
    assert fingerprint([str(tmp_path)]) == fingerprint([])


def test_a_file_of_another_size_is_read_again_whatever_its_time(folder):
    weights = folder / "inner" / "weights"
    os.utime(weights, (1, 1))
    before = fingerprint([str(folder)])
    weights.write_text("12345")
    os.utime(weights, (1, 1))
    assert fingerprint([str(folder)]).sha256 != before.sha256


def test_what_was_not_written_since_is_not_read_again(folder, monkeypatch):
    before = fingerprint([str(folder)])
    monkeypatch.setattr(fingerprints, "file_sha256", None)
    assert fingerprint([str(folder)]) == before
    os.utime(folder / "config.json", (1, 1))
    with pytest.raises(TypeError):
        fingerprint([str(folder)])


def test_what_an_earlier_process_has_read_is_not_read_again(folder, monkeypatch):
    before = fingerprint([str(folder)])
    monkeypatch.setattr(fingerprints, "_known", {})
    monkeypatch.setattr(fingerprints, "file_sha256", None)
    remember(before)
    assert fingerprint([str(folder)]) == before


def test_a_url_is_always_read(tmp_path, serve):
    (tmp_path / "rows.jsonl").write_text("one")
    with serve(tmp_path) as address:
        before = fingerprint([f"{address}rows.jsonl"])
        (tmp_path / "rows.jsonl").write_text("two")
        assert fingerprint([f"{address}rows.jsonl"]).sha256 != before.sha256


def test_code_is_what_a_function_reaches():
    code = code_fingerprint(unlearn)
    assert {"closer_look.training", "closer_look.packing", "closer_look"} <= set(code)
    assert not {"closer_look.report", "closer_look.metrics", "closer_look.parameters"} & set(code)
    for function in (measure_rows, initialise):  # which tries adapters, and trains nothing
        assert "closer_look.training" not in code_fingerprint(function)
    assert not {"closer_look.generation", "closer_look.judges"} & set(
        code_fingerprint(collect_questions)  # another node of its module uses them
    )


def test_of_the_losses_those_are_code_that_are_imported_by_name():
    losses = {name for name in code_fingerprint(unlearn) if name.startswith("closer_look.losses")}
    assert losses == {
        "closer_look.losses.gradient_descent",
        "closer_look.losses.mean_over_positions",
    }


def test_a_function_that_is_wrapped_or_given_arguments_is_the_same_code():
    wrapped = wraps(collect_questions)(lambda: None)
    for function in (wrapped, partial(collect_questions, None)):
        assert code_fingerprint(function) == code_fingerprint(collect_questions)


def test_comments_are_no_code_and_the_report_s_template_is(tmp_path, monkeypatch):
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number, (code, template) in enumerate(
        [("x = 1", ""), ("x = 1  # one", ""), ("x = 1", "<p>")]
    ):
        path = package / f"module_{number}.py"
        path.write_text(code)
        path.with_suffix(".html.jinja").write_text(template)
        found.append(fingerprints._module(f"some_package.module_{number}")[0])
    assert found[0] == found[1] != found[2]
    assert "closer_look.report" in code_fingerprint(write_report)


def test_a_loss_is_the_functions_and_numbers_it_uses(monkeypatch):
    before = loss_fingerprint(forget.npo)
    monkeypatch.setattr(nll, "IGNORE", -1)
    assert loss_fingerprint(forget.npo) != before
    monkeypatch.undo()
    monkeypatch.setattr(forget, "sequence_nll", nll.token_nll)
    assert loss_fingerprint(forget.npo) != before
    monkeypatch.undo()
    monkeypatch.setattr(forget, "maximum_entropy", None)
    assert loss_fingerprint(forget.npo) == before


def test_a_class_that_a_loss_uses_is_the_loss_s_code(monkeypatch):
    before = loss_fingerprint(forget.maximum_entropy)
    monkeypatch.setattr(nll, "_MeanOverPositions", None)
    assert loss_fingerprint(forget.maximum_entropy) != before
