"""How Sphinx makes the site of these documents: `make docs` writes it to site/. Everything it needs is local."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from lab.cli.version import installed_version

ROOT = Path(__file__).parents[1]

project = "lab"
release = installed_version()
copyright = "the authors of lab, Apache-2.0"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["results/*"]  # parts of RESULTS.md, which has them
suppress_warnings = ["myst.header"]  # pages of a command begin at the level that fits

# Markdown as GitHub shows it: links between files and to headings, and blocks of code without a language are commands
myst_heading_anchors = 4
myst_number_code_blocks: list[str] = []
highlight_language = "bash"
copybutton_exclude = ".linenos, .gp, .go"

# docstrings: one backtick marks code, as in Markdown
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "lab"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

#: Documents outside this folder that are pages, too: each page takes the text of its document.
_ELSEWHERE = {"index": "README.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)")


def _take_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the text of a document outside this folder before its page's own, and let links lead to pages."""
    if docname in _ELSEWHERE:
        text = (ROOT / _ELSEWHERE[docname]).read_text(encoding="utf-8")
        source[0] = f"{_LINK.sub(lambda link: _seen_from_here(link[1]), text)}\n{source[0]}"
    for page, document in _ELSEWHERE.items():
        source[0] = re.sub(rf"(?<=\]\()((?:\.\./)+){document}", lambda up: f"{up[1][3:]}{page}.md", source[0])  # noqa: B023


def _seen_from_here(link: str) -> str:
    return link.removeprefix("docs/") if link.startswith("docs/") else f"../{link}"


def setup(app: Sphinx) -> None:
    """Connect what is above to Sphinx."""
    app.connect("source-read", _take_in)
