"""Brings the databases of a server to the versions of PostgreSQL, MLflow and Optuna that are installed now."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lab import study
from lab.errors import ResourceError
from lab.serve.binaries import newest_binaries, version_of
from lab.serve.home import Home
from lab.serve.postgres import AUTH, DATABASES, STUDIES, Postgres
from lab.serve.serving import Services, opened

__all__ = ["upgrade"]

Say = Callable[[str], None]


def upgrade(folder: Path, say: Say = lambda text: None) -> None:
    """Upgrade everything that is older than what is installed; the server must be stopped, and is stopped afterwards.

    The data of an older PostgreSQL is copied into a new folder, and the old one is kept.

    Raises:
        LabError: the server runs, there is none yet, or a step fails; then nothing that was stored is lost.
    """
    if version_of(Home(folder).postgres) is None:
        raise ResourceError(f"{folder} has no server yet; `lab serve` makes one")
    with opened(folder, say=say) as services:
        newest = newest_binaries()
        if services.postgres.binaries.major < newest.major:
            _move(services.postgres, services.postgres.at(services.home.next_postgres, newest), services, say)
            services = replace(services, postgres=services.postgres.at(services.home.postgres, newest))
        with _running(services.postgres):
            _upgrade_tables(services, say)


def _move(old: Postgres, new: Postgres, services: Services, say: Say) -> None:
    """Copy all databases into the folder of a newer PostgreSQL, which takes the place of the old one at the end."""
    say(f"Copying the databases from {old.name} to {new.name}")
    dumps = {name: services.home.server / f"{name}.sql" for name in DATABASES}
    shutil.rmtree(new.data, ignore_errors=True)  # of an upgrade that was interrupted
    try:
        with _running(old):
            for name, file in dumps.items():
                old.dump(name, file)
        new.create()
        with _running(new):
            new.prepare()
            for name, file in dumps.items():
                new.load(name, file)
    finally:
        for file in dumps.values():
            file.unlink(missing_ok=True)
    kept = old.data.with_name(f"{old.data.name}.{old.binaries.major}")
    old.data.rename(kept)
    new.data.rename(old.data)  # if this is interrupted, the next start does it
    say(f"The data of {old.name} is kept in {kept}; delete it when you no longer need it")


def _upgrade_tables(services: Services, say: Say) -> None:
    mlflow, python = services.mlflow, (sys.executable, "-m")
    environment = mlflow.environment()
    say("Upgrading the tables of MLflow, of its accounts, and of the studies")
    _run((*python, "mlflow", "db", "upgrade", mlflow.database()), environment)
    _run((*python, "mlflow.server.auth", "db", "upgrade", "--url", mlflow.database(AUTH)), environment)
    services.file().use(tracking=False)
    if study.StorageProbe(services.postgres.url(STUDIES)).schema().found is not None:
        optuna = shutil.which("optuna", path=str(Path(sys.executable).parent)) or "optuna"
        _run((optuna, "storage", "upgrade", "--storage", mlflow.database(STUDIES)), environment)


@contextmanager
def _running(postgres: Postgres) -> Iterator[None]:
    try:
        postgres.start()
        yield
    finally:
        postgres.stop()


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        said = [line for line in said if "Error" in line] or said  # SQLAlchemy adds the statement and a link
        what = " ".join(command[:-1]).replace(f"{sys.executable} -m ", "")
        raise ResourceError(f"`{what}` failed: {said[-1] if said else f'exit code {done.returncode}'}")
