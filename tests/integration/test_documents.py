"""Whoever follows the tutorial and the how-to pages gets what they promise: every block is run, with less to train.

A block is not run if its first line says what it needs that no test has, such as Slurm.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits

from lab.cli import main
from lab.plugins import kept
from tests.blocks import Block, blocks
from tests.once import copy_of, made_once
from tests.programs import activated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a loaded machine is slow

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TUTORIAL = [DOCS / "tutorial" / f"{name}.md" for name in ("first-sweep", "results", "own-net", "machines")]
HOW_TO = sorted(set((DOCS / "howto").glob("*.md")) - {DOCS / "howto" / "README.md"})
MISSING = {  # here; what tests of their own run, with and without them
    "a GPU",
    "a free port",
    "a network",
    "a running lab serve",
    "a second machine",
    "Docker",
    "Slurm",
    "the clone",
}
LESS = {  # to train, than a file says
    r"epochs: \d+": "epochs: 1",
    r"lr: \[0.003, 0.01, 0.03\]": "lr: [0.003, 0.01]",
    r"depth: \[2, 3\]": "depth: [2]",
}


def less(text: str) -> str:
    for said, instead in LESS.items():
        text = re.sub(said, instead, text)
    return text


def run_block(block: Block) -> None:
    """Do in the working directory what the reader of a block does."""
    if block.needs:
        assert block.needs in MISSING
    elif block.file:
        Path(block.file).write_text(less(block.text))
    elif block.language == "python":
        Path("block.py").write_text(block.text.replace("RUN_ID", newest_run()))
        shell(f"{shlex.quote(sys.executable)} block.py")
    elif block.language == "":
        for line in block.lines:
            print(f"$ {line}")
            run_line(line)
    else:
        assert block.language in ("text", "json", "yaml")


def run_line(line: str) -> None:
    command, _, comment = line.replace("RUN_ID", newest_run()).partition("  #")
    words = shlex.split(command)
    if comment.strip() == "until Ctrl-C":
        interrupted(words[1:])
    elif words[0] != "lab" or set(command) & set("&|;$"):
        shell(command)
    else:  # in this process, which has imported everything
        arguments, _, target = command.partition(" > ")
        result = CliRunner().invoke(main, shlex.split(arguments)[1:], prog_name="lab")
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        if target:
            Path(target).write_text(result.stdout)


def shell(command: str) -> None:
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def interrupted(arguments: list[str]) -> None:
    """Start `lab`, and press Ctrl-C once it has said something."""
    command = [sys.executable, "-m", "lab", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as started:
        assert started.stdout is not None
        try:
            assert started.stdout.readline()
        finally:
            os.killpg(started.pid, signal.SIGINT)
        assert started.wait(300) in (0, 130)


def newest_run() -> str:
    """Return the run of the trial that ended last, rather not the best, which pages also name; "" before the first."""
    database = Path(".lab/mlflow.db")
    if not database.exists():
        return ""
    with closing(sqlite3.connect(database)) as connection:
        query = (
            "SELECT run_uuid FROM runs JOIN tags USING (run_uuid) LEFT JOIN latest_metrics USING (run_uuid) "
            "WHERE tags.key = 'lab.outcome' AND latest_metrics.key = 'best_value' "
            "ORDER BY latest_metrics.value = MAX(latest_metrics.value) OVER (), end_time DESC"
        )
        return str((connection.execute(query).fetchone() or [""])[0])


@pytest.fixture(autouse=True)
def _as_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have `lab` and `python` on the path, and forget the plug-ins of a page."""
    program = tmp_path / "bin" / "lab"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lab "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{activated()['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield
    if "my_mlp" in sys.modules:
        kept._take_out("my_mlp")


def test_the_tutorial_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for page in TUTORIAL:
        for block in blocks(page):
            run_block(block)


def swept(folder: Path) -> None:
    """Fill the folder with what the how-to pages begin with: the study quickstart, and some photos."""
    (folder / "grids").mkdir()
    for file in (ROOT / "grids").glob("*.yaml"):
        (folder / "grids" / file.name).write_text(less(file.read_text()))
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images[:120], digits.target[:120], strict=True)):
        target = folder / "photos" / ("even" if label % 2 == 0 else "odd") / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8")).resize((16, 16)).save(target)
    here = Path.cwd()
    os.chdir(folder)
    try:
        run_line("lab sweep grids/quickstart.yaml")
    finally:
        os.chdir(here)


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_page_does_what_it_says(
    page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if all(block.needs or block.language == "text" for block in blocks(page)):
        pytest.skip("needs what is not here")
    home = tmp_path / "home"
    copy_of(made_once(tmp_path_factory, "how-to", swept), home)
    monkeypatch.chdir(home)
    for block in blocks(page):
        run_block(block)


def test_the_site_is_built_and_all_links_lead_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("sphinx_click")
    build = [
        "-m",
        "sphinx",
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
        str(DOCS),
        str(tmp_path / "site"),
    ]
    done = subprocess.run([sys.executable, *build], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "searchindex.js" in {file.name for file in (tmp_path / "site").iterdir()}
