"""Studies with nets of their own: from packages of the image, and as code that workers run only if they may."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from .conftest import REPOSITORY, WORKERS, Stack
from .wheels import PACKAGE, write_wheel

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

PACKAGED = """
name: {name}
base: {{architecture: team_net, epochs: 1}}
grid: {{units: [8, 16]}}
"""


@pytest.fixture(scope="module", autouse=True)
def _submitted(stack: Stack, study: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Submit from a laptop, whose package the image has; from one with a newer version; and code without a package."""
    laptops = [_laptop(stack, REPOSITORY / "examples" / "mlp.yaml", "--set", "epochs=1")]
    for name, version in (("packaged", "1.0"), ("newer", "1.1")):
        folder = tmp_path_factory.mktemp(name)
        with zipfile.ZipFile(write_wheel(folder, version)) as wheel:
            wheel.extractall(folder)
        (folder / "grid.yaml").write_text(PACKAGED.format(name=name))
        laptops.append(_laptop(stack, folder / "grid.yaml"))
    for laptop in laptops:
        told = laptop.communicate(timeout=120)[0]
        assert laptop.returncode == 0, told


def _laptop(stack: Stack, grid: Path, *options: str) -> subprocess.Popen[str]:
    """Start `lab submit` outside the containers, where the packages in the grid file's folder are installed."""
    path = f"{REPOSITORY}{os.pathsep}{grid.parent}"
    return subprocess.Popen(
        [sys.executable, "-m", "lab", "submit", str(grid), *options],
        env={
            **os.environ,
            "PYTHONPATH": path,
            "LAB_STORAGE": stack.storage,
            "MLFLOW_TRACKING_URI": stack.url,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _refusals(stack: Stack) -> Counter[tuple[str, str]]:
    """Return how often workers have said why they leave a study alone, by the study and the reason."""
    logs = [stack.docker("logs", stack.container("worker", number)) for number in range(1, WORKERS + 1)]
    events = [json.loads(line) for log in logs for line in log.splitlines() if '"worker_failed"' in line]
    return Counter((event["study"], event["error"]) for event in events if event["study"] in ("mlp", "newer"))


def test_a_package_of_the_image_needs_no_permission(stack: Stack) -> None:
    stack.wait(lambda: stack.states("packaged") == {"complete": 2}, "both trials of the package's net")


def test_code_is_refused_in_one_line_and_so_is_another_version(stack: Stack) -> None:
    code = (
        "The study 'mlp' brings code of its own, the plug-in my_nets; if you trust those who can submit to this "
        "database, start the worker with --allow-code or LAB_ALLOW_CODE=true"
    )
    version = (
        f"The study 'newer' needs the plug-in team_nets of {PACKAGE} 1.1, but version 1.0 is installed here: "
        f"pip install '{PACKAGE}==1.1'"
    )
    expected = {("mlp", code): WORKERS, ("newer", version): WORKERS}
    stack.wait(lambda: _refusals(stack) == expected, "a line of each worker for each study")
    assert stack.states("mlp") == {"waiting": 6}
    assert stack.states("newer") == {"waiting": 2}
    assert stack.lab("cancel", "newer").returncode == 0


def test_workers_that_may_run_code_train_with_it(stack: Stack) -> None:
    settings = stack.folder / ".env"
    before = settings.read_text()
    settings.write_text(f"{before}LAB_ALLOW_CODE=true\n")
    try:
        stack.compose(
            "run", "--rm", "--no-deps", "-T", "worker", "worker", "--study", "mlp", "--idle-exit", "0"
        )
    finally:
        settings.write_text(before)
    assert stack.states("mlp") == {"complete": 6}
    assert "alpha" in stack.lab("best", "mlp").stdout
    assert set(_refusals(stack).values()) == {WORKERS}  # nothing was said again
