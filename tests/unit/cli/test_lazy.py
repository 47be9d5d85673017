"""What the command line costs before it does anything: help must not wait for libraries that training needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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

_ENDS = """
import atexit, sys, threading, time
from lab import cli
from lab.__main__ import run

def command(prog_name):
    atexit.register(print, "told")
    threading.Thread(target=lambda: (time.sleep(0.2), print("finished"))).start()
    print("said")
    {ending}

cli.main = command
run()
"""


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(3)", 3), ("sys.exit()", 0), ("raise ValueError", 1)])
def test_a_command_ends_with_its_code_once_threads_and_handlers_are_done(ending: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ENDS.format(ending=ending)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()) == (code, ["said", "finished", "told"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_told_at_the_exit() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", _ENDS.format(ending="sys.exit(0)")],
            stdout=full,
            env={"PYTHONPATH": str(Path(__file__).parents[3])},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 120
    assert "No space left on device" in done.stderr


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
