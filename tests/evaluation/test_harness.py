"""Tasks that the harness knows are seen without loading it."""

import subprocess
import sys

import pytest

from closer_look.errors import InputError
from closer_look.evaluation.downstream import check_harness

pytest.importorskip("lm_eval", reason="the extra 'downstream' is not installed")


@pytest.fixture
def folder(tmp_path):
    """Descriptions of one's own: a task and a group."""
    (tmp_path / "colours.yaml").write_text("task: colours\ndataset_path: json\n")
    (tmp_path / "mixed.yaml").write_text("group: mixed\ntask: [colours]\n")
    return tmp_path


def test_absent_harness_says_what_to_install(monkeypatch):
    monkeypatch.setattr("closer_look.evaluation.downstream.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'closer-look\[downstream\]'"):
        check_harness(["mmlu"], None)


def test_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"include_path: there is no folder '.*nope'"):
        check_harness(["mmlu"], str(tmp_path / "nope"))


def test_unknown_task_is_named_with_the_nearest(folder):
    with pytest.raises(InputError, match=r"no task or group 'arc_chalenge', but .*arc_challenge"):
        check_harness(["mmlu", "arc_chalenge"], None)
    with pytest.raises(InputError, match=r"no task or group 'colour', but .*colours"):
        check_harness(["colour"], str(folder))


def test_unknown_task_with_nothing_near_is_named():
    with pytest.raises(InputError, match=r"no task or group 'qqqqqqqqqqqqqqqq'$"):
        check_harness(["qqqqqqqqqqqqqqqq"], None)


def test_tasks_of_the_folder_and_of_the_harness_are_known(folder):
    check_harness(["colours", "mixed", "arc_challenge", "mmlu", "gsm8k"], str(folder))


def test_check_loads_neither_the_harness_nor_torch(folder):
    code = (
        "import sys; from closer_look.evaluation.downstream import check_harness; "
        f"check_harness(['mmlu', 'colours'], {str(folder)!r}); "
        "assert not sys.modules.keys() & {'lm_eval', 'datasets', 'torch'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
