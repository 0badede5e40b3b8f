"""Sessions: a fault of the input is one line, a fault of the program stays a traceback."""

import errno
import os

import pytest
from kedro.config import MissingConfigException
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io.core import DatasetError
from kedro.validation.exceptions import ParameterValidationError

from closer_look import pipeline_registry
from closer_look.errors import InputError
from closer_look.project.session import NO_SPACE, Session

REPORT = """Parameter validation failed:
- Parameter 'unlearning': Failed to instantiate UnlearningParameters for parameter 'unlearning': \
epochz: Extra inputs are not permitted
- Parameter 'methods.me_gd': Failed to instantiate MethodParameters for parameter \
'methods.me_gd': unknown loss 'nope', choose from idk"""


@pytest.fixture
def run(monkeypatch):
    """Run a session in which Kedro raises an error."""

    def run(error, cause=None, **chosen):
        def raise_it(self, *args, **kwargs):
            raise error from cause

        monkeypatch.setattr(KedroSession, "run", raise_it)
        Session.run(object.__new__(Session), **chosen)

    return run


def test_input_error_inside_an_error_of_kedro_comes_out(run):
    with pytest.raises(InputError, match="the file is empty"):
        run(DatasetError("Failed while loading"), cause=InputError("the file is empty"))


def test_input_error_comes_out_as_it_is(run):
    with pytest.raises(InputError, match="the file is empty"):
        run(InputError("the file is empty"))


def test_other_errors_stay_what_they_are(run):
    with pytest.raises(DatasetError, match="Failed while loading"):
        run(DatasetError("Failed while loading"), cause=OSError("disk"))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no"), RuntimeError(f"I/O: {NO_SPACE}")])
@pytest.mark.parametrize("while_handling", [False, True])
def test_full_disk_is_named_however_it_is_told(run, error, while_handling):
    outer = DatasetError("Failed while saving")
    if while_handling:
        outer.__context__ = error
    with pytest.raises(InputError, match=r"^the disk is full; finished results are kept\."):
        run(outer, cause=None if while_handling else error)


@pytest.mark.parametrize(
    ("name", "how"),
    [("erasure", "again"), ("verify", "again"), ("continual", "with --only-missing-outputs")],
)
def test_a_full_disk_says_how_each_pipeline_goes_on(run, name, how):
    with pytest.raises(InputError, match=rf"then run the same command {how}$"):
        run(OSError(errno.ENOSPC, "no"), pipeline_names=[name])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR])
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_folder_that_may_not_be_written_is_named(run, number, is_wrapped):
    error = OSError(number, os.strerror(number), "data/08_reporting")
    with pytest.raises(InputError) as caught:
        run(DatasetError("Failed") if is_wrapped else error, cause=error if is_wrapped else None)
    assert str(caught.value) == (
        f"data/08_reporting cannot be used ({os.strerror(number)}); change who may use it, or let "
        f"the run write elsewhere: --params data=FOLDER"
    )


def test_file_that_a_dataset_misses_is_named(run):
    with pytest.raises(InputError, match=r"^scores\.parquet is missing$"):
        run(DatasetError("Failed"), cause=FileNotFoundError(2, "No such file", "scores.parquet"))


def test_file_that_the_program_itself_misses_stays_a_traceback(run):
    with pytest.raises(FileNotFoundError):
        run(FileNotFoundError("config"))


def test_traceback_of_kedro_is_not_shown(run):
    with pytest.raises(InputError) as caught:
        run(DatasetError("Failed while loading"), cause=InputError("the file is empty"))
    assert caught.value.__suppress_context__


def test_faults_of_parameters_come_in_one_line(run):
    with pytest.raises(InputError) as caught:
        run(ParameterValidationError(REPORT))
    assert str(caught.value) == (
        "parameter unlearning: epochz: Extra inputs are not permitted; "
        "parameter methods.me_gd: unknown loss 'nope', choose from idk"
    )


def test_parameter_without_a_value_is_named(run):
    report = "Parameter validation failed:\n- Parameter 'unlearning': value is None but type is"
    with pytest.raises(InputError, match="'unlearning': value is None"):
        run(ParameterValidationError(report))


def test_environment_that_does_not_exist_is_told_in_one_line(run):
    with pytest.raises(InputError, match="conf/nope"):
        run(MissingConfigException("Given configuration path does not exist: conf/nope"))


def test_pipeline_that_does_not_exist_is_told_in_one_line(run):
    message = "Failed to find the pipeline named 'continul'.\nDid you mean\n    continual"
    with pytest.raises(InputError) as caught:
        run(ValueError(message))
    assert str(caught.value).startswith("no pipeline 'continul' in this environment, choose from")


def test_name_that_the_catalog_does_not_know_is_told_in_one_line(open_session, tmp_path):
    with (
        open_session(tmp_path, {"forget_split": "forget99"}, env="tofu") as session,
        pytest.raises(InputError) as caught,
    ):
        session.run(pipeline_names=["forget_set"])
    message = "configuration, raw_retain.filepath: Interpolation key '_retain_split.forget99'"
    assert str(caught.value) == f"{message} not found"


def test_full_disk_that_a_library_tells_in_words_is_told_in_one_line(run):
    said = f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"
    with pytest.raises(InputError, match=r"^the disk is full; "):
        run(DatasetError("Failed while saving"), cause=RuntimeError(said))


@pytest.mark.parametrize(
    ("chosen", "error"),
    [
        (
            {"node_names": ["continual.me_gd.task_01.unlern"]},
            r"nothing .* named 'continual.me_gd.task_01.unlern'; did you mean .*task_01.unlearn",
        ),
        (
            {"namespaces": ["continual.me_g"]},
            r"named 'continual.me_g'; did you mean continual.me_gd",
        ),
        ({"from_inputs": ["questionz"]}, r"named 'questionz'; did you mean questions"),
        ({"to_nodes": ["~"]}, r"named '~'; kedro registry describe lists the nodes"),
        ({"tags": ["~"]}, r"^no node matches all of --nodes, --tags"),
    ],
)
def test_what_is_chosen_and_not_there_is_told_in_one_line(open_session, tmp_path, chosen, error):
    with open_session(tmp_path) as session, pytest.raises(InputError, match=error):
        session.run(pipeline_names=["continual"], **chosen)


def test_error_of_a_value_inside_a_node_stays_a_traceback(run):
    with pytest.raises(ValueError, match="shapes"):
        run(ValueError("shapes do not fit"))


def test_input_error_exits_with_status_1():
    assert InputError("x").exit_code == 1


def test_input_error_is_told_in_one_line(capsys):
    InputError("row 'a': the answer is missing").show()
    assert capsys.readouterr().err == "Error: row 'a': the answer is missing\n"


def test_every_way_into_the_project_uses_this_session():
    from closer_look import settings

    assert settings.SESSION_CLASS is Session


def test_a_run_builds_the_benchmark_only_if_it_asks_for_it(kedro_run, tmp_path, monkeypatch):
    built = []
    create = pipeline_registry.create_scenario

    def create_scenario(name, *args, **options):
        built.append(name)
        return create(name, *args, **options)

    monkeypatch.setattr(pipeline_registry, "create_scenario", create_scenario)
    kedro_run(tmp_path, "forget_set")
    assert "fictitious" in built
    assert "benchmark" not in built
    assert "benchmark" in pipelines  # for whoever looks at them afterwards
    assert "benchmark" in built
