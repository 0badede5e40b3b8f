"""Runs whose artefacts lie in a bucket: the numbers of a local run, whatever happens meanwhile.

The bucket is that of moto's S3 server, a process of its own, which outlives the runs that are
killed.
"""

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys

import pandas as pd
import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto.server", reason="moto's server is not installed")

import fsspec


SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
SCENARIO = "fictitious"
PARAMETERS = {
    "experiment": {"methods": ["ga_kl"]},
    "forget_set": {"evaluation_rows": 2},
    "generation": {"max_length": 48},
}
RESULTS = ("summary", "metrics", "answers", "training_logs")


@pytest.fixture(scope="module")
def s3():
    """The bucket's file system; its address and credentials are in the environment."""
    command = [sys.executable, "-c", SERVER]
    with (
        subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        port = server.stdout.readline().strip()
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        filesystem = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        filesystem.mkdir("bucket")
        yield filesystem
        server.stdin.close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """What this machine keeps."""
    monkeypatch.setenv("CLOSER_LOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bucket(s3, request):
    """URL of a folder of the test's own."""
    name = request.node.name
    return f"s3://bucket/{''.join(c if c.isalnum() else '-' for c in name)}"


@pytest.fixture(scope="module")
def results(open_session):
    """Load the results of a run."""

    def results(data):
        with open_session(data, PARAMETERS) as session:
            catalog = session.load_context().catalog
        return {name: catalog.load(f"{SCENARIO}.{name}") for name in RESULTS}

    return results


@pytest.fixture(scope="module")
def on_disk(kedro_run, results, once):
    """Results of a run whose artefacts lie in a folder."""
    made = once("on_disk", lambda data: kedro_run(data, SCENARIO, parameters=PARAMETERS))
    return results(made)


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["closer_look.pipeline_registry", "sentence_transformers"])

RUN_UNTIL_KILLED = """
import os, signal
os.environ.update(environment)
import s3fs
from closer_look.project.session import Session
from kedro.framework.startup import bootstrap_project

bootstrap_project(root)
original = s3fs.S3FileSystem._call_s3

async def counted(*args, Key="", **kwargs):
    global calls
    calls -= args[1] in methods and part in Key
    if calls == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return await original(*args, Key=Key, **kwargs)

s3fs.S3FileSystem._call_s3 = counted
with Session.create(root, env="test", runtime_params=parameters) as session:
    session.run(pipeline_names=[scenario], only_missing_outputs=True)
"""


@pytest.fixture
def run_until_killed(root, bucket):
    """Run, or go on, in a process that dies before its n-th request of a kind."""

    def run_until_killed(*methods, part="", calls=1):
        known = {
            "environment": dict(os.environ),
            "root": root,
            "parameters": {"data": bucket} | PARAMETERS,
            "scenario": SCENARIO,
            "methods": methods,
            "part": part,
            "calls": calls,
        }
        process = PROCESSES.Process(target=exec, args=(RUN_UNTIL_KILLED, known))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode

    return run_until_killed


def assert_same(results, expected):
    for name, table in results.items():
        pd.testing.assert_frame_equal(table, expected[name])


def assert_nothing_half(s3, bucket, cache):
    """Every object of a folder is named by its marker, and nothing is locked."""
    found = s3.find(bucket)
    folders = {re.match(r"(.*)/(files-\w+)/", path).groups() for path in found if "/files-" in path}
    assert len(folders) == len({parent for parent, _ in folders}) > 3
    for parent, name in folders:
        manifest = json.loads(s3.cat(f"{parent}/complete.json"))
        assert manifest["folder"] == name
        assert {f"{parent}/{name}/{file}" for file in manifest["files"]} == {
            path for path in found if path.startswith(f"{parent}/files-")
        }
    assert not [path for path in found if "run.lock" in path or "partial" in path]
    assert not [*cache.rglob("*.partial")]


def test_killed_runs_go_on_to_the_table_of_a_local_run(
    s3, bucket, cache, kedro_run, run_until_killed, results, on_disk, caplog
):
    assert run_until_killed("put_object", part="target/complete.json") == -signal.SIGKILL
    assert [path for path in s3.find(bucket) if "/target/files-" in path]
    assert not s3.exists(f"{bucket}/06_models/test/target/complete.json")
    assert run_until_killed("put_object", part="generations.parquet") == -signal.SIGKILL
    with caplog.at_level("WARNING", "closer_look"):
        finished = kedro_run(bucket, SCENARIO, parameters=PARAMETERS, only_missing_outputs=True)
    assert "collect_questions" not in finished  # it goes on
    assert "is taken over from process" in caplog.text
    assert_same(results(bucket), on_disk)
    assert_nothing_half(s3, bucket, cache)
