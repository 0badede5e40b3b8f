"""Make the pictures of the docs from the newest results of a run.

    python tools/screenshots.py report
    python tools/screenshots.py report data/08_reporting/eleven/continual docs/images/eleven.png \
        --figures curves trade_off
    python tools/screenshots.py viz

Needs a run (``kedro run``), Playwright (the extra ``dev``) and Chromium on PATH (Debian:
``apt-get install chromium``).
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
REPORTS = ROOT / "data" / "08_reporting" / "people" / "continual"
REPORT_SIZE = (1100, 1010)
ONLY_SOME_FIGURES = """
body {{ padding: 1rem 1.5rem 0; }}
header, section:not(#figures), h2, figure:not({figures}) {{ display: none; }}
figure {{ margin-bottom: 1rem; }} figcaption h3 {{ margin-top: 0; }}
"""
VIZ_SIZE = (1440, 900)
VIZ_SETTINGS = {
    "theme": "light",
    "showFeatureHints": False,
    "isPrettyName": True,
    "visible": {"miniMap": False, "slicing": False},
}


def main() -> None:
    """Photograph a page, in light colours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    pages = parser.add_subparsers(required=True)
    report = pages.add_parser("report", help="some figures of a report")
    report.add_argument("reports", type=Path, nargs="?", default=REPORTS)
    report.add_argument("picture", type=Path, nargs="?", default=IMAGES / "demo.png")
    report.add_argument("--figures", nargs="+", default=["curves", "forgetting_matrix"])
    report.add_argument("--height", type=int, default=REPORT_SIZE[1])
    report.set_defaults(photograph=photograph_report)
    viz = pages.add_parser("viz", help="the graph of `make viz`, with a figure's preview")
    viz.add_argument("picture", type=Path, nargs="?", default=IMAGES / "viz.png")
    viz.set_defaults(photograph=photograph_viz)
    arguments = parser.parse_args()
    arguments.photograph(arguments)
    print(f"{arguments.picture}: {arguments.picture.stat().st_size / 1000:.0f} kB")


def photograph_report(arguments: argparse.Namespace) -> None:
    """Open some figures of the newest report, and save a screenshot."""
    versions = sorted(arguments.reports.glob("report.html/*/report.html"))
    if not versions:
        sys.exit(f"there is no report in {arguments.reports}: run `kedro run` first")
    figures = ", ".join(f"#figure-{name}" for name in arguments.figures)
    with open_page(REPORT_SIZE[0], arguments.height) as page:
        page.goto(versions[-1].resolve().as_uri())
        page.add_style_tag(content=ONLY_SOME_FIGURES.format(figures=figures))
        page.wait_for_timeout(1000)
        page.screenshot(path=arguments.picture)


def photograph_viz(arguments: argparse.Namespace) -> None:
    """Build the graph, open the scenario's box and a figure, and save a screenshot."""
    subprocess.run(
        [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"], cwd=ROOT, check=True
    )
    with serve(ROOT / "build") as url, open_page(*VIZ_SIZE) as page:
        page.add_init_script(f"localStorage.setItem('KedroViz', '{json.dumps(VIZ_SETTINGS)}')")
        page.goto(url)
        for name in ("continual", "continual.curves"):
            node(page, name).dispatch_event("click")  # a real click may scroll the page
            page.wait_for_timeout(2000)  # until the layout has settled
        page.locator(".pipeline-metadata .js-plotly-plot .trace").first.wait_for()
        place = node(page, "continual.curves").bounding_box()
        page.mouse.move(place["x"] + 140, place["y"])
        page.mouse.wheel(0, -230)  # nearer
        page.wait_for_timeout(1000)
        # kedro-viz shows absolute paths of this machine: shorten them.
        page.get_by_text("data/08_reporting").evaluate(
            "path => path.textContent = path.textContent.replace(/.*(?=data.08_reporting)/, '')"
        )
        page.screenshot(path=arguments.picture)


def node(page: Page, name: str) -> Locator:
    """Locate a box or a dataset in the graph."""
    return page.locator(f'.pipeline-node[data-node-fullname="{name}"]')


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP in the ``with`` block, and yield its URL."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def open_page(width: int, height: int) -> Iterator[Page]:
    """Open an empty page in headless Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no chromium on PATH")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        size = {"width": width, "height": height}
        yield browser.new_page(viewport=size, color_scheme="light")
        browser.close()


if __name__ == "__main__":
    main()
