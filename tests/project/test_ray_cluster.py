"""The cluster of a run: which one is meant, and what nodes take of its machines."""

import socket
from functools import partial

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


@pytest.fixture
def taken(open_session, tmp_path, machines):
    """What the nodes of ``fictitious`` take, by the end of their names."""

    def taken(given=(), sizes=((8, 8),)):
        from kedro.framework.project import pipelines

        machines(*sizes)
        with open_session(tmp_path, ONE_METHOD) as session:
            catalog = session.load_context().catalog
            found = resources_of(pipelines["fictitious"], catalog, engine(**dict(given)))
        check_room(found)
        return {node.name.rpartition(".")[2]: one for node, one in found.items()}

    return taken


class TestAddress:
    @pytest.fixture(autouse=True)
    def no_other(self, monkeypatch):
        import ray

        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def connect(self, **given):
        with connected(engine(**given)):
            pytest.fail("there is a cluster")

    def test_nobody_answers(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(InputError, match=rf"no Ray cluster answers at 127\.0\.0\.1:{port} \("):
            self.connect(address=f"127.0.0.1:{port}")

    def test_the_environment_names_it(self, monkeypatch):
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        with pytest.raises(InputError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 "):
            self.connect()

    @pytest.mark.parametrize("address", ["somewhere", "ray://127.0.0.1:10001", "host:port", ":6"])
    def test_no_address(self, address):
        with pytest.raises(InputError, match="is not HOST:PORT, such as"):
            self.connect(address=address)

    def test_what_answers_is_no_cluster(self, monkeypatch):
        import ray

        def init(**options):
            raise SystemExit(15)  # what Ray does

        monkeypatch.setattr(ray, "init", init)
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            pytest.raises(InputError, match=r"cannot be used \(it is no Ray cluster\); run this"),
        ):
            self.connect(address=f"127.0.0.1:{server.getsockname()[1]}")

    def test_two_heads(self, monkeypatch):
        heads = ["10.0.0.1:6379", "10.0.0.2:6379"]
        monkeypatch.setattr(ray_cluster, "_heads_here", lambda: heads)
        with pytest.raises(InputError, match=r"'auto' may be 10.0.0.1:6379 and 10.0.0.2:6379; nam"):
            self.connect(address="auto")

    def test_no_head(self, monkeypatch):
        monkeypatch.setattr(ray_cluster, "_heads_here", list)
        with pytest.raises(InputError, match="this machine belongs to no Ray cluster"):
            self.connect(address="auto")

    def test_a_cluster_has_its_own_number_of_workers(self):
        with pytest.raises(InputError, match=r"engine\.workers: 10\.0\.0\.1:6379 has its own"):
            self.connect(address="10.0.0.1:6379", workers=2)

    @pytest.mark.parametrize("n_failures", [1, 2])
    def test_a_busy_machine_has_a_second_try(self, monkeypatch, n_failures):
        import ray

        tries = []

        def init(**options):
            tries.append(options)
            if len(tries) <= n_failures:
                raise Exception("The current node timed out during startup.")

        monkeypatch.setattr(ray, "init", init)
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        if n_failures == 1:
            with connected(engine(workers=3)):
                assert [one["num_cpus"] for one in tries] == [3, 3]
        else:
            with pytest.raises(InputError, match=r"^Ray cannot start .*timed out during startup"):
                self.connect()


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

    def test_a_node_that_starts_workers_takes_nothing_itself(self, taken, monkeypatch):
        monkeypatch.setattr(
            "closer_look.parameters.training.UnlearningParameters.workers", 4, raising=False
        )
        of = taken({"resources": {"unlearning": {"num_gpus": 1}}})
        assert of["unlearn"] == {"num_cpus": 0, "num_gpus": 0}
        assert of["draw_plans"] == {"num_cpus": 1, "num_gpus": 0}  # it takes the parameters, too

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
