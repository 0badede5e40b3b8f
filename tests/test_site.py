"""The documentation builds without a warning, and its pages ask no other host for anything."""

import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import closer_look

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    """The folder that ``make docs`` makes."""
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    site = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--fail-on-warning", "--keep-going"]
    assert " ".join(options) in (root / "Makefile").read_text()
    command = [sys.executable, "-m", "sphinx", *options, root / "docs", site]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return site


class Loaded(HTMLParser):
    """What a browser fetches for a page by itself."""

    def __init__(self):
        super().__init__()
        self.urls = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag in ("script", "img", "iframe", "source"):
            self.urls.append(attributes.get("src"))
        elif tag == "link" and attributes.get("rel") in ("stylesheet", "icon", "preload"):
            self.urls.append(attributes.get("href"))


def test_every_module_is_in_the_reference(site):
    index = (site / "py-modindex.html").read_text(encoding="utf-8")
    listed = set(re.findall(r'href="reference/[\w.]+\.html#module-([\w.]+)"', index))
    there = {one.name for one in pkgutil.walk_packages(closer_look.__path__, "closer_look.")}
    assert listed == there - {"closer_look.__main__"} | {"closer_look"}  # which is a command


def test_a_function_is_described_where_it_is_defined(site):
    package = (site / "reference" / "closer_look.losses.html").read_text(encoding="utf-8")
    assert package.count('id="closer_look.losses.forget.npo"') == 1
    assert 'id="closer_look.losses.npo"' not in package


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert [url for url in loaded.urls if url and re.match("(https?:)?//", url)] == [], page
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//|@import", styles) == []


def test_formulas_are_mathml(site):
    page = (site / "concepts.html").read_text(encoding="utf-8")
    assert page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') > 12
    text = re.sub(r"<(pre|code).*?</\1>|<[^>]*>", "", page, flags=re.DOTALL)
    assert re.findall(r"\$|\\mathrm|\\frac", text) == []


@pytest.mark.parametrize("width", [1440, 400])
@pytest.mark.parametrize("page", ["start", "concepts", "own_data", "reference/closer_look.losses"])
def test_pages_fit_a_screen_and_ask_no_other_host(site, serve, browser, page, width):
    requests = []
    with serve(site) as host:
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(host + page + ".html")
        too_wide = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        tab.close()
    assert len(requests) > 3
    assert [url for url in requests if not url.startswith((host, "data:"))] == []
    assert too_wide <= 0
