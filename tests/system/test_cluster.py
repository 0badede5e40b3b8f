"""Ray is joined or started, or one line says why not."""

import socket
import sys

import pytest

from closer_look.errors import InputError
from closer_look.system import cluster


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def resources(monkeypatch):
    """A cluster that this process is in already, with those resources."""
    import ray

    found = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "init", lambda *args, **options: pytest.fail("it is in one already"))
    monkeypatch.setattr(ray, "cluster_resources", lambda: found)
    return found


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"need Ray, .*: pip install 'closer-look\[cluster\]'"):
        cluster.connect()


@pytest.fixture
def alone(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.mark.usefixtures("alone")
class TestAddress:
    def test_nobody_answers(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(InputError, match=rf"no Ray cluster answers at 127\.0\.0\.1:{port} \("):
            cluster.connect(f"127.0.0.1:{port}")

    def test_the_environment_names_it(self, monkeypatch):
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        with pytest.raises(InputError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 "):
            cluster.connect()

    @pytest.mark.parametrize("address", ["somewhere", "ray://127.0.0.1:10001", "host:port", ":6"])
    def test_no_address(self, address):
        with pytest.raises(InputError, match="is not HOST:PORT, such as"):
            cluster.connect(address)

    def test_what_answers_is_no_cluster(self, monkeypatch):
        import ray

        def init(**options):
            raise SystemExit(15)  # what Ray does

        monkeypatch.setattr(ray, "init", init)
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            pytest.raises(InputError, match=r"cannot be used \(it is no Ray cluster\); run this"),
        ):
            cluster.connect(f"127.0.0.1:{server.getsockname()[1]}")

    def test_two_heads(self, monkeypatch):
        heads = ["10.0.0.1:6379", "10.0.0.2:6379"]
        monkeypatch.setattr(cluster, "_heads_here", lambda: heads)
        with pytest.raises(InputError, match=r"'auto' may be 10.0.0.1:6379 and 10.0.0.2:6379; nam"):
            cluster.connect("auto")

    def test_no_head(self, monkeypatch):
        monkeypatch.setattr(cluster, "_heads_here", list)
        with pytest.raises(InputError, match="this machine belongs to no Ray cluster"):
            cluster.connect("auto")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("n_failures", [2, 3])
def test_a_busy_machine_is_asked_again(monkeypatch, n_failures):
    import ray

    tries = []

    def init(**options):
        tries.append(options)
        if len(tries) <= n_failures:
            raise Exception("timed out during startup")

    monkeypatch.setattr(ray, "init", init)
    if n_failures == 3:
        with pytest.raises(InputError, match=r"Ray cannot start here \(timed out during startup\)"):
            cluster.connect(n_cpus=3)
    else:
        cluster.connect(n_cpus=3)
    assert [one["num_cpus"] for one in tries] == [3, 3, 3]


@pytest.mark.parametrize(
    ("found", "kind", "named"),
    [({"CPU": 2.0}, "CPU", "CPU cores"), ({"CPU": 64.0, "GPU": 2.0}, "GPU", "GPUs")],
)
def test_workers_without_a_device_each(resources, found, kind, named):
    """Where there are GPUs, cores do not count."""
    resources |= found
    assert cluster.device_kind() == kind
    cluster.check_workers(2, "unlearning.workers")
    message = f"parameter unlearning.workers: 3 workers need as many {named}, and there are 2"
    with pytest.raises(InputError, match=message):
        cluster.check_workers(3, "unlearning.workers")
