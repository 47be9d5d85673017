"""The documents keep up with the code."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import cogapp
import pytest
from click.testing import CliRunner

import lab
from lab import plugins, registry
from lab.cli import main
from lab.config import PRESETS, SECTIONS, TrialConfig, load_grid
from lab.config.search import SearchFile
from lab.engines import engine_keys, find_profile
from lab.plugins import kept
from lab.registry import Registry
from lab.study import PRUNERS, SAMPLERS
from lab.training import Outcome
from tests.blocks import blocks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted((DOCS / "reference").glob("*.md"))
REFERENCE = "\n".join(page.read_text() for page in PAGES)
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(file.relative_to(ROOT)) for file in DOCS.rglob("*.md") if file.parent.name != "results"),
]
#: Each of these has commands, so a change of how blocks are written cannot leave them unread.
COMMANDS = (
    "README",
    "CONTRIBUTING",
    "docs/OWN",
    "docs/SERVICE",
    "docs/CLUSTER",
    "docs/tutorial/results",
    "docs/howto/resume",
)
NAMES = [name for value in vars(registry).values() if isinstance(value, Registry) for name in value]
SEARCHES = (*SAMPLERS, *PRUNERS, *SearchFile.model_fields)


@pytest.mark.parametrize("name", sorted({*NAMES, *PRESETS, *TrialConfig.model_fields, *Outcome, *SEARCHES}))
def test_every_name_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in REFERENCE


def test_the_tables_of_the_reference_are_those_of_the_code(capfd: pytest.CaptureFixture[str]) -> None:
    check = [
        "cog",
        "--check",
        "--diff",
        "-P",
        "-I",
        str(DOCS),
        "-p",
        "from tables import *",
        *map(str, PAGES),
    ]
    assert cogapp.Cog().main(check) == 0, f"Run `make reference`:\n{capfd.readouterr().out}"


def test_the_settings_have_the_sections_of_the_help() -> None:
    page = (DOCS / "reference" / "settings.md").read_text()
    sections = re.findall(r"^## (.*)\n\n<!--.*\n\| setting .*\n.*\n\| `(\w+)` \|", page, re.MULTILINE)
    assert dict(sections) == SECTIONS
    shown = CliRunner().invoke(main, ["train", "--help"]).stdout
    begun = re.findall(r"^(\w.*):\n  --([\w-]+)", shown, re.MULTILINE)
    assert [(title, option) for title, option in begun if title in SECTIONS] == sections


def test_every_public_name_is_on_the_page_of_python() -> None:
    page = (DOCS / "reference" / "python.md").read_text()
    assert not [name for name in lab.__all__ if not re.search(rf"(:: |`lab\.){name}\b", page)]


def test_every_how_to_page_is_in_the_overviews() -> None:
    pages = {file.stem for file in (DOCS / "howto").glob("*.md")} - {"README"}
    assert set(re.findall(r"\]\(([\w-]+)\.md\)", (DOCS / "howto" / "README.md").read_text())) == pages
    assert set(re.findall(r"^howto/([\w-]+)$", (DOCS / "index.md").read_text(), re.MULTILINE)) == pages


@pytest.mark.parametrize("engine", engine_keys.ENGINES)
def test_every_key_of_a_profile_is_in_the_reference(engine: str) -> None:
    if engine == "slurm":
        pytest.importorskip("submitit")
    assert not [key for key in engine_keys._keys(engine) if f"`{key}`" not in REFERENCE]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    file = ROOT / document
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", file.read_text()):
        there = file.parent / target if target else file
        assert there.exists(), target
        assert not anchor or anchor in _anchors(there), f"{target}#{anchor}"


def _anchors(file: Path) -> set[str]:
    """Return what GitHub calls the headings of a document."""
    headings = re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _blocks(document: str, language: str) -> list[str]:
    """Return the blocks of code in one language; "" for commands, which have none."""
    return [block.text for block in blocks(ROOT / document) if block.language == language]


def _commands(document: str) -> list[str]:
    text = "\n".join(_blocks(document, ""))
    return re.findall(r"^\s*(?:docker compose run --rm )?lab ([\w-]+ .*)", text, re.MULTILINE)


@pytest.fixture
def _without_the_examples() -> Iterator[None]:
    yield
    for module in {"my_nets", "my_parts", "my_mlp"} & sys.modules.keys():
        kept._take_out(module)


@pytest.mark.usefixtures("_without_the_examples")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_the_documents_exist(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    for block in blocks(ROOT / document):
        if block.file:
            Path(block.file).write_text(block.text)
    commands = _commands(document)
    assert commands or document.removesuffix(".md") not in COMMANDS
    for line in commands:
        name, *arguments = shlex.split(line.replace("…", ""), comments=True)
        given = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
        if "--use" in given:
            plugins.use(arguments[arguments.index("--use") + 1])
        command = main.commands[name]
        params = command.get_params(click.Context(command))
        known = {option for param in params for option in (*param.opts, *param.secondary_opts)}
        assert set(given) <= known, f"lab {line}"


def yaml_blocks() -> list[str]:
    documents = ("README.md", "CONTRIBUTING.md", "docs/OWN.md")
    return [block for document in documents for block in _blocks(document, "yaml")]


@pytest.mark.parametrize("block", yaml_blocks())
@pytest.mark.usefixtures("_without_the_examples")
def test_the_grids_in_the_documents_are_right(block: str, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(block)
    shutil.copy(ROOT / "examples" / "my_nets.py", tmp_path)
    assert load_grid(tmp_path / "grid.yaml").space.size > 0


def test_the_profiles_in_the_documents_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    Path("lab.yaml").write_text("".join(_blocks("docs/CLUSTER.md", "yaml")))
    assert [find_profile(name).engine for name in ("gpu", "rays")] == ["slurm", "ray"]


@pytest.mark.parametrize(
    "file",
    sorted(file for folder in ("grids", "examples") for file in (ROOT / folder).glob("*.yaml")),
    ids=lambda file: file.stem,
)
def test_what_a_grid_files_comments_cite_is_here(file: Path) -> None:
    comments = re.findall(r"#(.*)", file.read_text())
    for cited in re.findall(r"[\w/.-]+\.(?:md|yaml|py)\b", " ".join(comments)):
        assert (ROOT / cited).exists() or (file.parent / cited).exists(), cited


def _examples(command: click.Command) -> list[str]:
    texts = (inspect.cleandoc(command.help or ""), command.epilog or "")
    return [line.strip() for text in texts for line in text.splitlines() if line.startswith("  lab ")]


@pytest.mark.parametrize("name", ["", *main.commands])
def test_examples_of_the_help_stand_on_lines_of_their_own(name: str) -> None:
    command = main.commands[name] if name else main
    shown = CliRunner().invoke(main, [*([name] if name else []), "--help"]).stdout.splitlines()
    assert not set(_examples(command)) - {line.strip() for line in shown}
