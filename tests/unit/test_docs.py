"""The documents keep up with the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lab import registry
from lab.cli import main
from lab.config import PRESETS, TrialConfig, load_grid
from lab.config.search import SearchFile
from lab.registry import Registry
from lab.study import PRUNERS, SAMPLERS
from lab.training import Outcome

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "REFERENCE.md").read_text()
NAMES = [name for value in vars(registry).values() if isinstance(value, Registry) for name in value]
SEARCHES = (*SAMPLERS, *PRUNERS, *SearchFile.model_fields)


@pytest.mark.parametrize("name", sorted({*NAMES, *PRESETS, *TrialConfig.model_fields, *Outcome, *SEARCHES}))
def test_every_name_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in REFERENCE


@pytest.mark.parametrize(("name", "field"), TrialConfig.model_fields.items())
def test_the_reference_tells_what_the_code_does(name: str, field: object) -> None:
    row = next(line for line in REFERENCE.splitlines() if line.startswith(f"| `{name}` |"))
    assert " ".join(TrialConfig.model_fields[name].description.split()) in row  # type: ignore[union-attr]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/REFERENCE.md"])
def test_links_lead_somewhere(document: str) -> None:
    file = ROOT / document
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", file.read_text()):
        assert (file.parent / target).exists(), target


def yaml_blocks() -> list[str]:
    texts = [(ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")]
    return [block for text in texts for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize("block", yaml_blocks())
def test_the_grids_in_the_documents_are_right(block: str, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(block)
    assert load_grid(tmp_path / "grid.yaml").space.size > 0


@pytest.mark.parametrize("file", sorted((ROOT / "grids").glob("*.yaml")), ids=lambda file: file.stem)
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
