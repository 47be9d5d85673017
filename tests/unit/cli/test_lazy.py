"""What the command line costs before it does anything: help must not wait for libraries that training needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab.cli import main

CODE = """
import sys
from lab.cli import main

HEAVY = {"torch", "mlflow", "optuna", "pandas", "matplotlib", "sqlalchemy", "sklearn", "fcntl", "submitit", "ray"}

for command in ([], *([name] for name in main.commands)):
    try:
        main([*command, "--help"], prog_name="lab")
    except SystemExit as end:
        assert end.code == 0, command
    slow = HEAVY & set(sys.modules)
    assert not slow, (command, slow)
"""

COLLECTIONS = """
import gc, sys
from lab.__main__ import run

def collections():
    return sum(generation["collections"] for generation in gc.get_stats())

before, sys.argv = collections(), ["lab", "--help"]
try:
    run()
except SystemExit as end:
    assert end.code == 0
assert gc.isenabled()
print(collections() - before)
"""


def test_help_needs_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: lab ") == 1 + len(main.commands)


def test_garbage_is_seldom_looked_for_while_commands_are_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECTIONS],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.splitlines()[-1]) < 10  # more than a hundred with Python's own settings
