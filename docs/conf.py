"""Configuration of the documentation site (``make docs``)."""

import sys
from pathlib import Path

from docutils.nodes import SkipNode, math, math_block
from docutils.utils.math.latex2mathml import tex2mathml
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from closer_look import __version__

project = "Closer Look"
author = "The Closer Look developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # as a code host gives them
html_theme = "furo"
html_title = "Closer Look"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"

# A page for each package, written to docs/reference at every build.
apidoc_modules = [{"path": "../src/closer_look", "destination": "reference"}]
apidoc_module_first = True
exclude_patterns = ["reference/modules.rst"]  # a list of one package

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "show-inheritance": True,
    "ignore-module-all": True,  # what a package takes from its modules is described there
    "exclude-members": "model_config",
}
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}  # spelt out, it fills a page
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def setup(app: Sphinx) -> None:
    """Write formulas as MathML, which browsers draw by themselves: no script, no network."""
    app.add_lexer("csv", TextLexer)
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))


def _inline(self: HTML5Translator, node: math) -> None:
    self.body.append(tex2mathml(node.astext()))
    raise SkipNode


def _block(self: HTML5Translator, node: math_block) -> None:
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode
