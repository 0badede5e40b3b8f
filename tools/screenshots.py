"""Make a picture of the docs again: some figures of the newest report of a run.

    python tools/screenshots.py [data/08_reporting/people/continual] [docs/images/demo.png]
    python tools/screenshots.py data/08_reporting/eleven/continual docs/images/eleven.png \
        --figures curves trade_off

Needs a run (``kedro run``) and Chromium on PATH (Debian: ``apt-get install chromium``).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "data" / "08_reporting" / "people" / "continual"
PICTURE = ROOT / "docs" / "images" / "demo.png"
SIZE = (1100, 1010)
ONLY_SOME_FIGURES = """
<style>
body {{ padding: 1rem 1.5rem 0; }}
header, section:not(#figures), h2, figure:not({figures}) {{ display: none; }}
figure {{ margin-bottom: 1rem; }} figcaption h3 {{ margin-top: 0; }}
</style>
"""


def main() -> None:
    """Photograph the figures as the report shows them, in light colours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=Path, nargs="?", default=REPORTS)
    parser.add_argument("picture", type=Path, nargs="?", default=PICTURE)
    parser.add_argument("--figures", nargs="+", default=["curves", "forgetting_matrix"])
    parser.add_argument("--height", type=int, default=SIZE[1])
    arguments = parser.parse_args()
    versions = sorted(arguments.reports.glob("report.html/*/report.html"))
    if not versions:
        sys.exit(f"there is no report in {arguments.reports}: run `kedro run` first")
    shown = ONLY_SOME_FIGURES.format(
        figures=", ".join(f"#figure-{name}" for name in arguments.figures)
    )
    report = versions[-1].read_text(encoding="utf-8").replace("</head>", shown + "</head>")
    photograph(report, arguments.picture, arguments.height)
    print(f"{arguments.picture}: {arguments.picture.stat().st_size / 1000:.0f} kB")


def photograph(report: str, picture: Path, height: int) -> None:
    """Show the report in headless Chromium, and save what is seen."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no chromium on PATH")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(report, encoding="utf-8")
        subprocess.run(  # noqa: S603
            [
                chromium,
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--no-first-run", "--disable-background-networking"),
                *("--virtual-time-budget=8000", "--blink-settings=preferredColorScheme=1"),
                f"--user-data-dir={folder}/profile",
                f"--window-size={SIZE[0]},{height}",
                f"--screenshot={picture.resolve()}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    main()
