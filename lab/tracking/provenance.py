"""The code, the versions and the machine that a run was made with."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lab.tracking.tags import Tag
from lab.training import cores

__all__ = ["provenance", "version_of"]


@cache
def provenance() -> dict[str, str]:
    """Return tags with the git commit of lab's code, the versions of the libraries that compute, and the machine."""
    tags = {
        Tag.VERSION: version_of("lab"),
        Tag.PYTHON: platform.python_version(),
        Tag.TORCH: version_of("torch"),
        Tag.TORCHVISION: version_of("torchvision"),
        Tag.MLFLOW: version_of("mlflow"),
        Tag.HOST: platform.node(),
        Tag.CPU: f"{_cpu()}, {cores()} cores",
    }
    commit = _commit(Path(__file__).parent)
    return tags | ({Tag.COMMIT: commit} if commit else {})


def version_of(package: str) -> str:
    """Return the version of an installed package; `unknown` if it is not installed, but run from a folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _cpu() -> str:
    """Return the processor's name; Python itself does not know it on Linux."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit(folder: Path) -> str:
    """Return the commit that `folder` is checked out at, empty if it is not in a repository.

    An image has no repository; there `LAB_COMMIT` names the commit.
    """
    if "LAB_COMMIT" in os.environ:
        return os.environ["LAB_COMMIT"]
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
