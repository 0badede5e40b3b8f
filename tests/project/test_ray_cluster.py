"""The cluster of a run: which one is meant, and what nodes take of its machines."""

import json
from functools import cache, partial

import pytest

from closer_look.errors import InputError
from closer_look.parameters.groups import as_model
from closer_look.project import ray_cluster
from closer_look.project.ray_cluster import check_room, connected, look_around, resources_of
from closer_look.project.ray_runner import RayRunner

ONE_METHOD = {"experiment": {"methods": ["me_gd"]}}


def engine(**given):
    return as_model("engine", given)


@pytest.fixture
def machines(monkeypatch):
    """Let the cluster have machines with so many CPUs and GPUs."""

    def machines(*sizes):
        found = [{"Resources": {"CPU": cpus, "GPU": gpus}} for cpus, gpus in sizes]
        monkeypatch.setattr(ray_cluster, "_machines", lambda: found)

    return machines


@pytest.fixture(scope="module")
def run(open_session, tmp_path_factory):
    """The nodes and the catalog of ``fictitious`` with parameters, in JSON."""
    from kedro.framework.project import pipelines

    @cache
    def run(parameters):
        shape = ONE_METHOD | json.loads(parameters)
        with open_session(tmp_path_factory.mktemp("data"), shape) as session:
            catalog = session.load_context().catalog
            return pipelines["fictitious"], catalog

    return run


@pytest.fixture
def taken(run, machines):
    """What the nodes of ``fictitious`` take, by the end of their names."""

    def taken(given=(), sizes=((8, 8),), **parameters):
        machines(*sizes)
        found = resources_of(*run(json.dumps(parameters)), engine(**dict(given)))
        check_room(found)
        return {node.name.rpartition(".")[2]: one for node, one in found.items()}

    return taken


def test_a_cluster_has_its_own_number_of_workers(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with (
        pytest.raises(InputError, match=r"engine\.workers: 10\.0\.0\.1:6379 has its own"),
        connected(engine(address="10.0.0.1:6379", workers=2)),
    ):
        pytest.fail("there is a cluster")


class TestEngine:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"retires": 3}, "parameter engine.retires: Extra inputs are not permitted"),
            ({"threads": 0}, "parameter engine.threads: Input should be greater than 0"),
            (
                {"resources": {"unlearning": {"num_gpus": 1.5}}},
                "parameter engine.resources.unlearning.num_gpus: 1.5 must be a whole number, or a "
                "share below 1",
            ),
            (
                {"resources": {"unlearning": {"gpus": 1}}},
                "parameter engine.resources.unlearning.gpus: Extra inputs are not permitted",
            ),
        ],
    )
    def test_faults_are_named(self, given, message):
        with pytest.raises(InputError) as fault:
            engine(**given)
        assert str(fault.value) == message

    def test_ray_is_not_installed(self, monkeypatch):
        monkeypatch.setattr("closer_look.project.ray_runner.find_spec", lambda name: None)
        with pytest.raises(InputError, match=r"needs Ray: pip install 'closer-look\[cluster\]'$"):
            RayRunner()


class TestResources:
    def test_a_node_with_a_model_takes_a_gpu(self, taken):
        of = taken()
        with_gpu = {name for name, one in of.items() if one["num_gpus"]}
        assert with_gpu == {
            *("initialise", "finetune", "score_reference", "unlearn"),
            *("fingerprint_model", "score_answers", "generate_answers", "judge_answers"),
            *("count_unknown_tokens", "select_evaluation"),
        }
        assert {(one["num_cpus"], one["num_gpus"]) for one in of.values()} == {(1, 0), (1, 1)}

    def test_there_are_no_gpus(self, taken):
        assert {one["num_gpus"] for one in taken(sizes=((2, 0),)).values()} == {0}

    def test_stages_may_take_something_else(self, taken):
        of = taken({"resources": {"unlearning": {"num_gpus": 2}, "metrics": {"num_cpus": 0.5}}})
        assert of["unlearn"] == {"num_cpus": 1, "num_gpus": 2}
        assert of["judge_answers"] == {"num_cpus": 0.5, "num_gpus": 1}
        assert of["score_answers"] == {"num_cpus": 1, "num_gpus": 1}

    def test_a_node_that_starts_workers_takes_nothing_itself(self, taken):
        given = {"resources": {"unlearning": {"num_gpus": 1}}}
        of = taken(given, unlearning={"workers": 4})
        assert of["unlearn"] == {"num_cpus": 0, "num_gpus": 0}
        assert of["draw_plans"] == {"num_cpus": 1, "num_gpus": 0}  # it takes the parameters, too

    def test_a_node_that_never_starts_workers_takes_what_its_stage_does(self, taken):
        of = taken(scoring={"workers": 4})
        assert of["score_reference"] == {"num_cpus": 1, "num_gpus": 1}
        assert of["score_answers"] == {"num_cpus": 0, "num_gpus": 0}

    def test_no_stage(self, taken):
        with pytest.raises(InputError, match=r"there is no stage 'unlearn', choose from forget_se"):
            taken({"resources": {"unlearn": {"num_gpus": 1}}})

    def test_no_machine_has_it_all(self, taken):
        given = {"resources": {"unlearning": {"num_cpus": 16, "num_gpus": 2}}}
        with pytest.raises(InputError) as fault:
            taken(given, sizes=((32, 0), (8, 8)))
        assert str(fault.value) == (
            "parameter engine.resources.unlearning: fictitious.me_gd.task_01.unlearn takes 16 CPUs "
            "and 2 GPUs of one machine, but the machines of the cluster have 32 CPUs and 0 GPUs; 8 "
            "CPUs and 8 GPUs"
        )

    def test_one_machine_has_it_all(self, taken):
        given = {"resources": {"unlearning": {"num_cpus": 16, "num_gpus": 2}}}
        assert taken(given, sizes=((32, 2), (8, 8)))["unlearn"]["num_gpus"] == 2


class TestMachines:
    @pytest.fixture
    def look(self, tmp_path):
        (tmp_path / "mark").write_text("mark")
        return partial(look_around, str(tmp_path), {}, str(tmp_path), "mark")

    def test_all_is_well(self, look, tmp_path):
        assert look() == ""
        assert [path.name for path in tmp_path.iterdir()] == ["mark"]

    def test_it_has_other_libraries_and_code(self, tmp_path):
        expected = {"torch 1.0": "", "the code of closer-look": "another"}
        assert look_around(str(tmp_path), expected, None, "mark") == (
            "has not torch 1.0 and the code of closer-look; install the same there, and begin its "
            "Ray anew"
        )

    def test_it_has_not_the_folder(self, tmp_path):
        assert look_around(f"{tmp_path}/nope", {}, None, "mark").startswith(
            f"has no folder {tmp_path}/nope; put the project into a folder that all machines share"
        )

    def test_it_does_not_see_the_data(self, tmp_path):
        fault = look_around(str(tmp_path), {}, str(tmp_path), "mark")
        assert fault.startswith(f"cannot read and write {tmp_path} ([Errno 2] No such file")
        assert fault.endswith(
            "let --params data=FOLDER name a folder that all machines share, or a URL"
        )

    def test_it_sees_other_data(self, look, tmp_path):
        (tmp_path / "mark").write_text("another")
        assert look().startswith(f"reads another {tmp_path} than this one; let --params data=FOLDE")

    def test_it_may_not_write(self, look, tmp_path, monkeypatch):
        def refuse(self, path, *args, **kwargs):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.pipe_file", refuse)
        assert look().startswith(f"cannot read and write {tmp_path} ([Errno 13] Permission denied")
