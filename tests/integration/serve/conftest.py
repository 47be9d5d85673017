"""A `lab serve` of its own process, which tests may kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from lab import serve
from lab.serve.home import Home
from lab.serve.leftovers import end_leftovers
from lab.server_file import ServerFile, read_server_file

_SECONDS = 150  # a loaded machine is slow
_WITH_ONLY = """
from lab.cli import main
from lab.serve import binaries
found = binaries.found_binaries
binaries.found_binaries = lambda: [each for each in found() if each.major == {}]
main()
"""


class Serving:
    """`lab serve` in a folder, run again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / ".lab")
        self.output = folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> ServerFile:
        return read_server_file(self.home.server_file)

    def start(self, *options: str, postgresql: int | None = None) -> None:
        """Start it; `postgresql`: as if only that version were installed."""
        program = ["-m", "lab"] if postgresql is None else ["-c", _WITH_ONLY.format(postgresql)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *program, "serve", *options],
                cwd=self.folder,
                env=environment(),
                stdout=output,
                stderr=output,
            )
        self.until(lambda: "stops the server" in self.said)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{self.said}\n{''.join(self.logs())}")
            time.sleep(0.1)

    @property
    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def logs(self) -> list[str]:
        return [log.read_text() for log in self.home.server.glob("*.log")]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of lab in the folder."""
        command = [sys.executable, "-m", "lab", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment(), capture_output=True, text=True)

    def kill(self) -> None:
        """Kill only `lab serve` itself."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def postgres(self) -> psutil.Process:
        return psutil.Process(int((self.home.postgres / "postmaster.pid").read_text().split()[0]))

    def mlflow(self) -> psutil.Process:
        """Return the process that answers requests."""
        port = self.server.tracking_uri.rpartition(":")[2]
        return next(
            each for each in psutil.process_iter() if "uvicorn" in (words := _words(each)) and port in words
        )

    def end(self) -> None:
        serve.stop(self.home.folder)
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_SECONDS)
        end_leftovers(self.home)


def environment() -> dict[str, str]:
    """Return an environment in which nothing names other stores."""
    names = ("LAB_", "MLFLOW_TRACKING_", "PG", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(names)}


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


@contextmanager
def _serving() -> Iterator[Serving]:
    folder = Path(
        tempfile.mkdtemp(prefix="lab-serve-")
    )  # not pytest's own: PostgreSQL's account must enter it
    folder.chmod(0o755)
    serving = Serving(folder)
    try:
        yield serving
    finally:
        serving.end()
        shutil.rmtree(folder)


@pytest.fixture
def serving() -> Iterator[Serving]:
    """One for a test of its own, not started yet."""
    with _serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def running() -> Iterator[Serving]:
    """One that runs, for tests that only look at it."""
    with _serving() as serving:
        serving.start()
        yield serving
