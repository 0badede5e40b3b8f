"""kedro-viz draws the project after a small run: boxes, layers, previews."""

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

PROJECT = ("conf", "src", "pyproject.toml")


@pytest.fixture(scope="module")
def build(root, tmp_path_factory):
    """The folder that ``kedro viz build`` makes of a copy of the project, run in conf/test."""
    project = tmp_path_factory.mktemp("viz")
    for name in PROJECT:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, project / name)
    shutil.copytree(root / "data" / "01_raw", project / "data" / "01_raw")
    # Commands without --params read the experiment from the files.
    path = project / "conf" / "test" / "parameters.yml"
    parameters = yaml.safe_load(path.read_text(encoding="utf-8"))
    parameters["experiment"] |= {"methods": ["me_gd"], "n_tasks": 1}
    path.write_text(yaml.safe_dump(parameters), encoding="utf-8")

    environment = os.environ | {"KEDRO_ENV": "test", "KEDRO_DISABLE_TELEMETRY": "1"}
    for command in (["run"], ["viz", "build", "--include-previews"]):
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "kedro", *command],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    # The command ends with 0 even when it fails.
    assert (project / "build" / "index.html").is_file(), done.stdout + done.stderr
    return project / "build"


@pytest.fixture(scope="module")
def graph(build):
    return json.loads((build / "api" / "main").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def preview(build, graph):
    """What kedro-viz shows of a dataset."""
    ids = {node["name"]: node["id"] for node in graph["nodes"] if node["type"] == "data"}

    def preview(name):
        path = build / "api" / "nodes" / ids[name]
        node = json.loads(path.read_text(encoding="utf-8"))
        return node.get("preview_type"), node.get("preview")

    return preview


class TestGraph:
    def test_boxes_are_scenario_method_task(self, graph):
        boxes = graph["modular_pipelines"]
        assert {"continual", "continual.me_gd", "continual.me_gd.task_01"} <= set(boxes)
        children = {child["id"] for child in boxes["continual.me_gd"]["children"]}
        assert "continual.me_gd.task_01" in children

    def test_layers_follow_the_way_of_the_data(self, graph):
        # Empty when layers go round in a circle.
        layers = ["raw", "primary", "model_input", "models", "model_output", "reporting"]
        assert graph["layers"] == layers

    def test_every_dataset_has_a_layer(self, graph):
        datasets = [node for node in graph["nodes"] if node["type"] == "data"]
        assert len(datasets) > 20
        assert [node["name"] for node in datasets if not node["layer"]] == []

    def test_scenarios_can_be_chosen(self, graph):
        assert {"continual", "fictitious"} <= {line["id"] for line in graph["pipelines"]}


class TestPreviews:
    @pytest.mark.parametrize(
        "name",
        [
            "curves",
            "trade_off",
            "forgetting_matrix",
            "metric_values",
            "training_curves",
            "finetuning_curves",
        ],
    )
    def test_figures(self, preview, name):
        kind, figure = preview(f"continual.{name}")
        assert kind == "PlotlyPreview"
        assert len(figure["data"]) > 0
        assert figure["layout"]["title"]["text"]

    @pytest.mark.parametrize(
        "name",
        [
            "raw_forget",
            "refusals",
            "plan_task_01",
            "continual.me_gd.task_01.reference_scores",
            "continual.me_gd.task_01.training_log",
            "continual.me_gd.task_01.generations",
            "continual.me_gd.task_01.judgements",
            "continual.me_gd.task_01.metrics",
            "continual.summary_table",
            "continual.answers",
        ],
    )
    def test_tables(self, preview, name):
        kind, table = preview(name)
        assert kind == "TablePreview"
        assert len(table["columns"]) > 0
        assert all(len(row) == len(table["columns"]) for row in table["data"])

    @pytest.mark.parametrize("name", ["target_model", "continual.me_gd.task_01.model"])
    def test_models_show_their_configuration(self, preview, name):
        kind, configuration = preview(name)
        assert kind == "JSONPreview"
        assert json.loads(configuration)["model_type"] == "llama"


class TestInABrowser:
    def test_the_graph_is_drawn(self, build, tmp_path):
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is None:
            pytest.skip("there is no chromium on PATH")
        handler = partial(SimpleHTTPRequestHandler, directory=build)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            flags = "--headless=new --no-sandbox --disable-gpu --disable-background-networking"
            flags += " --no-first-run --virtual-time-budget=20000 --dump-dom"
            url = f"http://127.0.0.1:{server.server_port}/?pid=continual&expandAllPipelines=true"
            done = subprocess.run(  # noqa: S603
                [chromium, *flags.split(), f"--user-data-dir={tmp_path}", url],
                capture_output=True,
                text=True,
                timeout=180,
                check=True,
            )
            server.shutdown()
        assert 'class="pipeline-node' in done.stdout
        assert "continual.me_gd.task_01" in done.stdout
