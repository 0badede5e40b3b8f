"""Runs whose artefacts lie in a bucket: the numbers of a local run, whatever happens meanwhile.

The bucket is that of moto's S3 server, a process of its own, which outlives the runs that are
killed.
"""

import copy
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Thread

import pandas as pd
import pytest
import torch
from kedro.io.core import Version
from peft import LoraConfig, get_peft_model

pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto.server", reason="moto's server is not installed")

import fsspec
from botocore.exceptions import EndpointConnectionError
from s3fs import S3FileSystem

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.datasets.reference_scores_dataset import ReferenceScoresDataset
from closer_look.errors import InputError
from closer_look.system import whole_folders
from closer_look.system.run_lock import lock_run
from closer_look.training.reference_scores import ReferenceCache, ReferenceScores

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


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """What this machine keeps."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOSER_LOOK_CACHE", str(cache))
        yield cache


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
def made_on_disk(kedro_run, once):
    """Artefacts of a run in a folder."""
    return once("on_disk", lambda data: kedro_run(data, SCENARIO, parameters=PARAMETERS))


@pytest.fixture(scope="module")
def on_disk(made_on_disk, results):
    """Results of a run in a folder."""
    return results(made_on_disk)


REPLACE = """
import itertools, sys
from closer_look.system.whole_folders import written

for number in itertools.count():
    with written(sys.argv[1]) as folder:
        folder.mkdir()
        for name in range(4):
            (folder / f"{name}").write_text(f"{number}" * 1000)
    if not number:
        print("written", flush=True)
"""

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


@pytest.fixture(scope="module")
def run_until_killed(root):
    """Run, or go on, in a process that dies before its n-th request of a kind."""

    def run_until_killed(data, *methods, part="", calls=1):
        known = {
            "environment": dict(os.environ),
            "root": root,
            "parameters": {"data": data} | PARAMETERS,
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


@pytest.fixture(scope="module")
def killed_run(s3, run_until_killed, kedro_run):
    """A run that was killed twice and has gone on to its end: its URL, and its last nodes."""
    data = "s3://bucket/killed"
    assert run_until_killed(data, "put_object", part="target/complete.json") == -signal.SIGKILL
    assert [path for path in s3.find(data) if "/target/files-" in path]
    assert not s3.exists(f"{data}/06_models/test/target/complete.json")
    assert run_until_killed(data, "put_object", part="generations.parquet") == -signal.SIGKILL
    assert len(s3.find(f"{data}/08_reporting/test/run.lock")) == 1
    nodes = kedro_run(data, SCENARIO, parameters=PARAMETERS, only_missing_outputs=True)
    return data, nodes


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


@pytest.mark.slow
def test_killed_runs_go_on_to_the_table_of_a_local_run(s3, cache, killed_run, results, on_disk):
    data, nodes = killed_run
    assert "fictitious.before.score_answers" not in nodes  # it goes on
    assert "fictitious.before.generate_answers" in nodes
    assert_same(results(data), on_disk)
    assert_nothing_half(s3, data, cache)


def test_adapters_of_one_machine_are_read_on_another(
    s3, bucket, language_model, tmp_path, monkeypatch
):
    """They stand on a model in the bucket, which is in no folder that both have."""
    target = CausalLMDataset(filepath=f"{bucket}/target")
    first = CausalLMDataset(filepath=f"{bucket}/first")
    model = copy.deepcopy(language_model.model)
    with CausalLMDataset.models_handed_on():
        target.save(language_model._replace(model=model))
        adapted = get_peft_model(target.load().model, LoraConfig(r=2, task_type="CAUSAL_LM"))
        first.save(language_model._replace(model=adapted))
    monkeypatch.setenv("CLOSER_LOOK_CACHE", str(tmp_path / "another-machine"))
    read = first.load()
    torch.testing.assert_close(read.model.state_dict(), adapted.state_dict(), rtol=0, atol=0)
    first.save(read)
    for path in whole_folders.fetch(f"{bucket}/first").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
    assert first.sources() == [f"{bucket}/first/complete.json"]
    assert json.loads(first.preview())["base_model_name_or_path"] == f"{bucket}/target"


def test_a_model_is_read_whole_while_another_process_replaces_it(s3, bucket, tmp_path):
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", REPLACE, bucket],
        env=os.environ | {"CLOSER_LOOK_CACHE": str(tmp_path / "another-machine")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout.readline() == "written\n"
        seen = []
        while len(set(seen)) < 5:
            folder = whole_folders.fetch(bucket)
            contents = {path.read_text() for path in folder.iterdir()}
            assert len(contents) == 1
            seen += contents
        writer.kill()


@pytest.fixture
def other_store(monkeypatch):
    """Another S3 server, or other credentials, for this test alone."""

    def other_store(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
        fsspec.get_filesystem_class("s3").clear_instance_cache()

    yield other_store
    monkeypatch.undo()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


class _Refusing(BaseHTTPRequestHandler):
    def do_PUT(self):
        self.send_response(403)
        self.end_headers()
        self.wfile.write(
            b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        )

    def log_message(self, *arguments):
        pass


def test_a_bucket_that_is_missing(s3, kedro_run):
    with pytest.raises(InputError) as caught:
        kedro_run("s3://no-such-bucket/x", "forget_set")
    assert str(caught.value) == (
        "s3://no-such-bucket/x/08_reporting/test cannot be used (The specified bucket does not "
        "exist); create the bucket, or name another one, or keep the artefacts in a folder: "
        "--params data=FOLDER"
    )


def test_no_credentials(s3, kedro_run, other_store):
    other_store(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", AWS_EC2_METADATA_DISABLED="true")
    with pytest.raises(InputError, match=r"\(Unable to locate credentials\); check credentials"):
        kedro_run("s3://bucket/x", "forget_set")


def test_a_store_that_is_not_there(s3, kedro_run, other_store):
    other_store(AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1")
    with pytest.raises(InputError, match=r"\(Could not connect to the endpoint .*check cred"):
        kedro_run("s3://bucket/x", "forget_set")


def test_credentials_that_are_refused(s3, kedro_run, other_store):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        other_store(AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(InputError, match=r"Denied\); these credentials need leave to list"):
            kedro_run("s3://bucket/x", "forget_set")
        server.shutdown()


def test_a_bucket_that_is_lost_during_a_run(s3, bucket, kedro_run, monkeypatch):
    async def lost(self, path, *arguments, **options):
        if "questions.parquet" in path:
            raise EndpointConnectionError(endpoint_url="http://host")
        return await original(self, path, *arguments, **options)

    original = S3FileSystem._pipe_file
    monkeypatch.setattr(S3FileSystem, "_pipe_file", lost)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError) as caught:
        kedro_run(bucket, "forget_set")
    S3FileSystem.clear_instance_cache()  # an instance keeps the method it was made with
    assert str(caught.value) == (
        'the storage cannot be used any more (Could not connect to the endpoint URL: "http://host")'
        "; finished results are kept. When it can, run the same command with --only-missing-outputs"
    )


def test_a_protocol_that_nobody_knows(kedro_run):
    with pytest.raises(InputError, match=r"'foo://x.*': 'foo' is no protocol of a storage"):
        kedro_run("foo://x", "forget_set")


def test_a_second_run_of_a_name_stops_at_once(s3, bucket, kedro_run):
    lock = lock_run(f"{bucket}/08_reporting/test")
    with pytest.raises(InputError, match="another process is working on run 'test'"):
        kedro_run(bucket, "forget_set")
    lock.release()


def test_tables_are_those_that_were_written_last(s3, bucket, kedro_run):
    """What is there is found, what other parameters would make is refused, as in a folder."""
    assert kedro_run(bucket, "forget_set")
    assert kedro_run(bucket, "forget_set", only_missing_outputs=True) == []
    changed = {"experiment": {"n_tasks": 1}}
    with pytest.raises(InputError, match=r"questions was made with experiment\.n_tasks 2"):
        kedro_run(bucket, "forget_set", parameters=changed, only_missing_outputs=True)
    s3.pipe_file(f"{bucket}/03_primary/test/questions.parquet", b"damaged")
    with pytest.raises(InputError, match="questions is not what was made"):
        kedro_run(bucket, "forget_set", only_missing_outputs=True)


def test_a_version_of_the_future_is_refused(s3, bucket, open_session):
    with open_session(bucket) as session:
        catalog = session.load_context().catalog
    future = catalog.get("finetuning_log")
    s3.pipe_file(f"s3://{future._filepath}/2999-01-01T00.00.00.000Z/finetuning_log.parquet", b"")
    with (
        pytest.raises(InputError, match=r"finetuning_log has a version of 2999"),
        open_session(bucket) as session,
    ):
        session.run(pipeline_names=["finetuning"])


def test_reference_scores_are_computed_once(s3, bucket):
    cache = ReferenceCache(bucket)
    computed = cache.get("key", lambda: {"nll": torch.ones(2)})
    assert cache.get("key", None)["nll"].equal(computed["nll"])
    assert [path.rpartition("/")[2] for path in s3.find(bucket)] == ["key.safetensors"]


def test_damaged_reference_scores_are_computed_again(s3, bucket, caplog):
    s3.pipe_file(f"{bucket}/key.safetensors", b"damaged")
    assert ReferenceCache(bucket).get("key", lambda: {"nll": torch.ones(2)})
    assert "key.safetensors is damaged" in caplog.text


def test_a_dataset_of_reference_scores(s3, bucket):
    version = Version(None, "2026-01-01T00.00.00.000Z")
    dataset = ReferenceScoresDataset(filepath=f"{bucket}/reference_scores", version=version)
    assert not dataset.exists()
    assert dataset.sources() == []
    scores = ReferenceScores(
        pd.DataFrame({"row_id": ["a"], "text": ["b"], "nll": [1.5]}), {"a": torch.ones(2, 3)}
    )
    dataset.save(scores)
    read = ReferenceScoresDataset(
        filepath=f"{bucket}/reference_scores", version=Version(None, None)
    ).load()
    pd.testing.assert_frame_equal(read.nll, scores.nll)
    assert read.hidden_states["a"].equal(scores.hidden_states["a"])
    assert dataset.sources() == [
        f"{bucket}/reference_scores/2026-01-01T00.00.00.000Z/reference_scores/complete.json"
    ]
    assert dataset.preview()["columns"] == ["row_id", "text", "nll"]


@pytest.mark.slow
def test_killed_at_any_request(s3, bucket, cache, run_until_killed, results, on_disk):
    """Again and again, each time some requests later than it has to begin with."""
    random = Random(27)  # noqa: S311
    n_killed = 0
    while run_until_killed(bucket, "put_object", calls=random.randint(20, 70)) != 0:
        n_killed += 1
    assert n_killed > 2
    assert_same(results(bucket), on_disk)
    assert_nothing_half(s3, bucket, cache)


@pytest.mark.slow
def test_every_pipeline_works_in_a_bucket(killed_run, made_on_disk, kedro_run, load_result):
    """What a run exports, and that measured as a model made elsewhere: as in a folder."""
    data, _ = killed_run
    for place in (data, made_on_disk):
        kedro_run(place, "inspect", parameters=PARAMETERS)
        kedro_run(place, f"export_{SCENARIO}", parameters=PARAMETERS)
    (exported,) = (made_on_disk / "09_export" / "test" / SCENARIO).iterdir()
    in_bucket = whole_folders.fetch(f"{data}/{exported.relative_to(made_on_disk)}")
    for path in exported.iterdir():
        if path.name != "README.md":  # with the date of its run
            assert (in_bucket / path.name).read_bytes() == path.read_bytes()
    measured = {"models": {"mine": {"base_model": str(in_bucket)}}, "run": "other"}
    tables = []
    for place in (data, made_on_disk):
        kedro_run(place, "measure", parameters=PARAMETERS | measured)
        tables.append(load_result(place, "measure.summary_table", measured))
    pd.testing.assert_frame_equal(*tables)
