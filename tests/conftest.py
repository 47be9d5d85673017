"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import alembic.util
import pytest
from hypothesis import Phase, settings

from lab import registry
from lab.study import open_storage
from lab.tracking import prepare
from tests.once import made_once

# without `explain`: it traces every line of a failing example, which takes minutes where a database is asked
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
settings.register_profile(
    "lab", deadline=None, derandomize=bool(os.environ.get("CI")), max_examples=50, phases=_PHASES
)
settings.load_profile("lab")

# what a shell starts in the background is deaf to Ctrl-C, and so would be the processes that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)

# Each time a database is opened, Alembic executes all of Optuna's or MLflow's migration files to learn the newest
# version: once per process will do, except for env.py, which migrates when it is executed
_execute = alembic.util.load_python_file
_execute_once = cache(_execute)
alembic.util.load_python_file = lambda folder, file: (
    _execute(folder, file) if file == "env.py" else _execute_once(folder, file)
)

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"
TIERS = {"slow", "gpu", "docker", "browser", "postgres", "slurm", "ray"}


@pytest.hookimpl(tryfirst=True)  # before `-m` leaves any out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise if a test is of a tier for which the Makefile would not look into its file."""
    for item in items:
        for marker in TIERS.intersection(mark.name for mark in item.iter_markers()):
            if not _has_marker(item.path, marker):
                raise pytest.UsageError(
                    f"{item.nodeid}: `make test-{marker}` would miss it; write pytest.mark.{marker} in its file"
                )


@cache
def _has_marker(file: Path, marker: str) -> bool:
    """Return whether a file of tests, or a conftest.py that it uses, contains a marker."""
    files = (file, *(folder / "conftest.py" for folder in file.parents))
    return any(f"mark.{marker}" in each.read_text() for each in files if each.is_file())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage, then or later, in what stays: modules and tests, a million objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's data, caches and servers."""
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_RUN_ID",
        "MLFLOW_EXPERIMENT_ID",
        "MLFLOW_EXPERIMENT_NAME",
        "LAB_STORAGE",
        "LAB_DATA_DIR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _without_paths() -> Iterator[None]:
    """Take out what a test names by path (`torch.optim:RAdam`), whose parameters are settings of its process."""
    before = set(_paths())
    yield
    for known, path in set(_paths()) - before:
        known.remove(path)


def _paths() -> Iterator[tuple[registry.Registry, str]]:
    return (
        (known, name)
        for known in vars(registry).values()
        if isinstance(known, registry.Registry)
        for name in known
        if ":" in name
    )


@pytest.fixture(scope="session")
def fresh_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty databases to copy, because creating one takes MLflow seconds of migrations."""

    def make(folder: Path) -> None:
        open_storage(f"sqlite:///{folder / 'optuna.db'}").engine.dispose()
        prepare(f"sqlite:///{folder / 'mlflow.db'}")

    return made_once(tmp_path_factory, "databases", make)


@pytest.fixture
def mnist_dir() -> Path:
    """The folder that holds all of MNIST."""
    if not (SHARED_DATA / "MNIST").exists():
        pytest.skip(f"MNIST is not in {SHARED_DATA}")
    return SHARED_DATA
