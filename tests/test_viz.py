"""kedro-viz draws the project after a small run: boxes, layers, previews."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pandas as pd
import pytest
import yaml
from kedro.framework.project import pipelines

LAYERS = ["raw", "primary", "model_input", "models", "model_output", "reporting"]
BUILD = ["viz", "build", "--include-hooks", "--include-previews"]
PROJECT = ("conf", "src", "pyproject.toml", "Makefile")


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
    for command in (["run"], ["run", "--pipelines", "inspect"], BUILD):
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
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert f"kedro {' '.join(BUILD)}" in page
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


@pytest.fixture(scope="module")
def previewed(whole_run, open_session):
    """Entries of the catalog after a finished run, each with its preview."""
    with open_session(whole_run.data) as session:
        catalog = session.load_context().catalog
    names = sorted(pipelines["continual"].datasets())
    entries = {n: catalog.get(n) for n in names if not n.startswith(("params:", "parameters"))}
    previews = {n: entry.preview() for n, entry in entries.items() if hasattr(entry, "preview")}
    return entries, previews


def test_previews_are_of_tables_figures_and_configurations(previewed):
    """What kedro-viz makes of them is tested below."""
    _, previews = previewed
    assert previews["continual.curves"]["layout"]["title"]["text"]
    assert len(previews["questions"]["columns"]) > 5
    for model in ("target_model", "continual.me_gd.task_01.model"):
        assert json.loads(previews[model])["model_type"] == "llama"


def test_every_entry_has_a_layer(previewed):
    entries, _ = previewed
    layers = {n: entry.metadata["kedro-viz"]["layer"] for n, entry in entries.items()}
    assert set(layers.values()) == set(LAYERS)


@pytest.mark.slow
class TestGraph:
    def test_boxes_are_scenario_method_task(self, graph):
        boxes = graph["modular_pipelines"]
        assert {"continual", "continual.me_gd", "continual.me_gd.task_01"} <= set(boxes)
        children = {child["id"] for child in boxes["continual.me_gd"]["children"]}
        assert "continual.me_gd.task_01" in children

    def test_layers_follow_the_way_of_the_data(self, graph):
        # Empty when layers go round in a circle.
        assert graph["layers"] == LAYERS

    def test_every_dataset_has_a_layer(self, graph):
        datasets = [node for node in graph["nodes"] if node["type"] == "data"]
        assert len(datasets) > 20
        assert [node["name"] for node in datasets if not node["layer"]] == []

    def test_scenarios_can_be_chosen(self, graph):
        assert {"continual", "fictitious"} <= {line["id"] for line in graph["pipelines"]}


@pytest.mark.slow
def test_make_viz_serves_the_graph_of_an_environment(build, tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    options = "VIZ=--env test --params experiment.retain_only=finetuned --no-browser"
    options += f" --port {port}"
    # -o: what is installed is taken as it is
    command = ["make", "-o", ".venv/.installed", "viz", f"BIN={Path(sys.executable).parent}"]
    log = tmp_path / "log"
    with log.open("w") as file:
        server = subprocess.Popen(  # noqa: S603
            [*command, options],
            cwd=build.parent,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        graph = json.loads(fetch(f"{url}api/main", server, log))
        page = fetch(url, server, log).decode()
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
    boxes = set(graph["modular_pipelines"])
    assert {"continual.me_gd.task_01", "continual.retain_only"} <= boxes
    assert "continual.ga_gd" not in boxes  # of conf/base
    assert graph["layers"] == LAYERS
    assert "<title>Kedro-Viz</title>" in page
    assert "heap" not in page  # kedro-viz's telemetry


def free_port():
    """One that kedro-viz takes: none above 49151, as the system would give."""
    for port in range(20_000 + os.getpid() % 10_000, 49_152):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def fetch(url, server, log):
    """What a server answers that is still starting."""
    for _ in range(120):
        assert server.poll() is None, log.read_text()
        try:
            with urlopen(url) as answer:  # noqa: S310
                return answer.read()
        except URLError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.mark.slow
class TestPreviews:
    @pytest.mark.parametrize(
        "name",
        [
            "curves",
            "trade_off",
            "forgetting_matrix",
            "metric_values",
            "truth_ratios",
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
            "questions",
            "unknown_questions",
            "plan_task_01",
            "evaluation_task_01",
            "continual.me_gd.task_01.reference_scores",
            "continual.me_gd.task_01.training_log",
            "continual.me_gd.task_01.scores",
            "continual.me_gd.task_01.generations",
            "continual.me_gd.task_01.judgements",
            "continual.me_gd.task_01.metrics",
            "continual.me_gd.summary",
            "continual.node_costs",
            "continual.summary_table",
            "continual.answers",
        ],
    )
    def test_tables(self, preview, name):
        kind, table = preview(name)
        assert kind == "TablePreview"
        assert len(table["columns"]) > 0
        assert all(len(row) == len(table["columns"]) for row in table["data"])

    def test_every_dataset_has_one_where_there_is_something_to_see(self, graph, preview):
        names = {node["name"] for node in graph["nodes"] if node["type"] == "data"}
        without = {name for name in names if preview(name)[1] is None}
        kept = {name for name in without if name.endswith("_checkpoints")}
        assert without - kept == {"reference_cache", "continual.report"}

    @pytest.mark.parametrize("name", ["target_model", "continual.me_gd.task_01.model"])
    def test_models_show_their_configuration(self, preview, name):
        kind, configuration = preview(name)
        assert kind == "JSONPreview"
        assert json.loads(configuration)["model_type"] == "llama"


@pytest.fixture(scope="module")
def url(build, serve):
    """Where the build is served."""
    with serve(build) as url:
        yield url


@pytest.fixture
def visit(browser, url):
    """Open the page without a network.

    A first visitor's hints and the map would lie over the graph.
    """
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.hosts = set()

    def answer(route):
        host = urlsplit(route.request.url).hostname
        page.hosts.add(host)
        route.continue_() if host == "127.0.0.1" else route.abort()

    page.route("**/*", answer)
    settings = {"showFeatureHints": False, "visible": {"miniMap": False}}
    page.add_init_script(f"localStorage.setItem('KedroViz', '{json.dumps(settings)}')")

    def visit(query=""):
        page.goto(f"{url}?{query}")
        page.wait_for_selector(".pipeline-node")
        return page

    yield visit
    page.close()


def node(page, name):
    """A box, a dataset, a node or a parameter in the graph."""
    return page.locator(f'.pipeline-node[data-node-fullname="{name}"]')


def count_colours(page, picture):
    """Different colours of a PNG, which the browser decodes."""
    return page.evaluate(
        """async (png) => {
            const response = await fetch("data:image/png;base64," + png)
            const image = await createImageBitmap(await response.blob())
            const {width, height} = image
            const context = new OffscreenCanvas(width, height).getContext("2d")
            context.drawImage(image, 0, 0)
            const pixels = context.getImageData(0, 0, width, height).data
            return new Set(new Uint32Array(pixels.buffer)).size
        }""",
        base64.b64encode(picture).decode(),
    )


@pytest.mark.slow
class TestInABrowser:
    def test_the_graph_shows_boxes_and_layers(self, visit):
        page = visit()
        assert node(page, "questions").is_visible()
        assert node(page, "continual").get_attribute("data-node-type") == "modularPipeline"
        assert page.locator(".pipeline-layer-name").all_text_contents() == LAYERS

    def test_boxes_open_by_click(self, visit):
        page = visit()
        inside = ["continual.me_gd", "continual.me_gd.task_01", "continual.me_gd.task_01.model"]
        for outer, inner in zip(["continual", *inside], inside, strict=False):
            assert node(page, inner).count() == 0
            node(page, outer).click()
            node(page, inner).wait_for()

    def test_a_figure_is_drawn(self, visit):
        page = visit()
        node(page, "continual").click()
        node(page, "continual.curves").click()
        figure = page.locator(".pipeline-metadata .js-plotly-plot")
        figure.locator(".trace").first.wait_for()
        assert count_colours(page, figure.screenshot()) > 50

    def test_questions_are_shown(self, visit, build):
        page = visit()
        node(page, "questions").click()
        table = page.locator(".pipeline-metadata .preview-table")
        questions = pd.read_parquet(build.parent / "data/03_primary/test/questions.parquet")
        shown = table.inner_text()
        assert [text for text in questions["question"].head(10) if text not in shown] == []

    def test_what_would_be_trained_is_shown_in_colours(self, visit):
        page = visit("pid=inspect")
        node(page, "inspection").click()
        tokens = page.locator(".pipeline-metadata .tokens").first
        tokens.wait_for()
        kinds = [tokens.locator(f"bdi.{kind}").first for kind in ("prompt", "label", "end")]
        colours = {kind.evaluate("e => getComputedStyle(e).backgroundColor") for kind in kinds}
        assert len(colours) == 3
        assert "rgba(0, 0, 0, 0)" not in colours

    def test_parameters_are_shown(self, visit):
        page = visit("types=nodes,datasets,parameters")
        node(page, "params:methods.me_gd.label").click()
        page.locator(".pipeline-metadata").get_by_text("ME+GD").wait_for()

    def test_a_screenshot_is_not_blank(self, visit):
        page = visit()
        beside_the_sidebar = {"x": 600, "y": 0, "width": 840, "height": 900}
        shown = count_colours(page, page.screenshot(clip=beside_the_sidebar))
        page.evaluate("document.querySelector('#root').remove()")
        assert count_colours(page, page.screenshot(clip=beside_the_sidebar)) == 1
        assert shown > 100

    def test_nothing_but_a_font_is_asked_of_other_hosts(self, visit):
        page = visit()
        node(page, "questions").click()
        page.wait_for_selector(".preview-table")
        assert "127.0.0.1" in page.hosts
        assert page.hosts - {"127.0.0.1"} <= {"fonts.googleapis.com", "fonts.gstatic.com"}
