"""How Sphinx makes the site of these documents: `make docs` writes it to site/. Everything it needs is local."""

from __future__ import annotations

import re
from pathlib import Path

import click
from sphinx.application import Sphinx

from lab.cli.version import installed_version
from lab.config import TrialConfig

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
highlight_language = "bash"
smartquotes = False  # they make a dash of the two hyphens of an option
copybutton_exclude = ".linenos, .gp, .go"

# docstrings: one backtick marks code, as in Markdown
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
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
html_show_search_summary = False  # a browser does not let a page of a folder read the others
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


def _examples_as_code(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Show the indented lines of a help text, which click leaves as they are, as code; not those of a list."""
    shown: list[str] = []
    in_list = in_code = False
    for line in (line.removeprefix("| ") for line in lines):
        in_list = line.lstrip().startswith("- ") or (in_list and line.startswith("  "))
        code = line.startswith("  ") and not in_list
        if code and not in_code:
            shown += ["", ".. code-block:: bash", ""]
        elif in_code and not code:
            shown.append("")
        in_code = code
        shown.append(line)
    lines[:] = shown


def _without_settings(_app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Leave out the settings, which have a page of their own, from the options of a command."""
    flags = {
        option
        for param in context.command.params
        if param.name in TrialConfig.model_fields
        for option in param.opts
    }
    options = re.split(r"(?m)^(?=\.\. option:: )", "\n".join(lines))
    kept = [text for text in options if not flags & set(re.split(r"[\s,]+", text.partition("\n")[0]))]
    if flags:
        kept.append("\nEvery :doc:`setting <settings>` is an option, too.\n")
    lines[:] = "".join(kept).split("\n")


def _no_lines(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    lines.clear()


def setup(app: Sphinx) -> None:
    """Connect what is above to Sphinx."""
    app.connect("source-read", _take_in)
    app.connect("sphinx-click-process-description", _examples_as_code)
    app.connect("sphinx-click-process-epilog", _examples_as_code)
    app.connect("sphinx-click-process-options", _without_settings)
    # the variables are the same for all commands, and described once; sphinx-click 6.2 registers another name
    app.add_event("sphinx-click-process-envars")
    app.connect("sphinx-click-process-envars", _no_lines)
