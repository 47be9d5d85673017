"""Commands that must be possible on Windows: nothing in lab itself imports what only POSIX has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
GRID = """
name: tiny
base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, epochs: 1, batch_size: 256}
grid:
  lr: [0.01]
"""
# every Python process of the command runs this first, its workers too
CUSTOM = """
import builtins
real = builtins.__import__
def imported(name, globals=None, *more, **options):
    if name in ("fcntl", "grp", "pwd", "resource", "termios"):
        if globals and globals.get("__name__", "").partition(".")[0] == "lab":
            raise ImportError(f"there is no {name} here")
    return real(name, globals, *more, **options)
builtins.__import__ = imported
"""
COMMANDS = {
    "train": "train --dataset synthetic --image-size 8 --width 4 --depth 1 --epochs 1",
    "sweep": "sweep tiny.yaml --workers 1",
}
# one after the other in one process: most of the time goes into imports
LOOK = """
from lab.cli import main
for words in (["--help"], ["check", "tiny.yaml"], ["plan", "tiny.yaml"]):
    try:
        main(words, prog_name="lab")
    except SystemExit as end:
        assert not end.code, words
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "sitecustomize.py").write_text(CUSTOM)
    (tmp_path / "tiny.yaml").write_text(GRID)
    return tmp_path


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{REPOSITORY}"}
    return subprocess.run(
        [sys.executable, *words], cwd=home, env=environment, capture_output=True, text=True, check=False
    )


def test_the_hook_works(home: Path) -> None:
    (home / "lab").mkdir()
    (home / "lab" / "__init__.py").write_text("import fcntl")
    done = run(home, "-c", "import fcntl, lab")
    assert "ImportError: there is no fcntl here" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_it_trains_without_modules_of_posix(home: Path, command: str) -> None:
    done = run(home, "-m", "lab", *COMMANDS[command].split())
    assert done.returncode == 0, done.stderr + done.stdout


def test_it_looks_ahead_without_modules_of_posix(home: Path) -> None:
    done = run(home, "-c", LOOK)
    assert done.returncode == 0, done.stderr + done.stdout
