"""Ray is joined or started, or one line says why not."""

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


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere"])
def test_cluster_that_cannot_be_reached(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=f"no Ray cluster can be reached at {address} .*start it"):
        cluster.connect()


def test_ray_that_does_not_start(monkeypatch):
    import ray

    tried = []

    def fails(*args, **options):
        tried.append(args)
        raise Exception("timed out during startup")

    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(InputError, match=r"Ray cannot start here \(timed out during startup\)"):
        cluster.connect()
    assert tried == [("local",)] * 3


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
