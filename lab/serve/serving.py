"""What `lab serve` does: starts PostgreSQL and MLflow, keeps them running, and stops them in order."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from lab import study
from lab.errors import ConfigError, LabError, ResourceError, StudyError
from lab.serve.binaries import account, find_binaries
from lab.serve.home import Home, Settings, free_port, is_free, read_settings
from lab.serve.importing import Imported, import_home, is_embedded
from lab.serve.leftovers import end_leftovers
from lab.serve.listening import LOOPBACK, listening_at
from lab.serve.mlflow_server import MlflowServer
from lab.serve.postgres import MLFLOW, ROLE, STUDIES, Postgres
from lab.serve.running import claimed, note_stopped
from lab.serve.service import Service, Stopped
from lab.server_file import ServerFile
from lab.stopping import Stop

__all__ = ["Services", "Started", "opened", "serve"]

_TICK = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # before a service that ends again and again is restarted
_STEADY_SECONDS = 60.0  # after which a service has proved that it runs

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Started:
    """A server that answers: what its file says, and where that is."""

    server: ServerFile
    file: Path

    def take_over(self, folder: Path, on_progress: Progress) -> Imported:
        """Move what a single machine's `.lab` holds to this server; see `import_home`.

        Raises:
            LabError: that is not possible.
        """
        database = urlsplit(self.server.storage)._replace(path=f"/{MLFLOW}").geturl()
        artifacts = Home(self.file.parent).artifacts
        return import_home(
            folder, self.server, database=database, artifacts=artifacts, on_progress=on_progress
        )


@dataclass(frozen=True)
class Services:
    """The two services of a folder, which are started in this order and stopped in the other."""

    home: Home
    settings: Settings
    postgres: Postgres
    mlflow: MlflowServer

    @property
    def all(self) -> Sequence[Service]:
        """Both of them."""
        return (self.postgres, self.mlflow)

    def stop(self) -> None:
        """Stop both in order."""
        for each in reversed(self.all):
            each.stop()

    def file(self) -> ServerFile:
        """Return what the server file says about them."""
        return ServerFile(
            tracking_uri=self.mlflow.url,
            storage=self.postgres.url(STUDIES),
            username=ROLE,
            password=self.settings.password,
            host=socket.gethostname(),
            pid=os.getpid(),
        )


def serve(
    folder: Path,
    *,
    host: str | None = None,
    mlflow_port: int | None = None,
    postgres_port: int | None = None,
    import_from: Path | None = None,
    stop: Stop,
    on_progress: Progress = lambda what, done, total: None,
    on_start: Callable[[Started], None] = lambda started: None,
    say: Say = lambda text: None,
) -> None:
    """Run PostgreSQL and MLflow for `folder` until a stop is asked for.

    What it stores is in `folder`/server, and `folder`/server.json says where it is. Ports and passwords stay the same
    over restarts. A service that ends is started again.

    Args:
        folder: usually `.lab`.
        host: the name by which others reach this machine, or an address; if None, only this machine reaches it.
        mlflow_port: of the MLflow server; if None the last one, or a free one.
        postgres_port: the same for PostgreSQL.
        import_from: a single machine's `.lab`; what it holds is moved here before others see this server.
        stop: ends it.
        on_progress: called with what is being moved, how much of it is done, and of how much.
        on_start: called once both answer.
        say: called with what the user should know besides.

    Raises:
        LabError: it cannot be started.
    """
    with opened(folder, host, mlflow_port, postgres_port, say) as services, _stopping(services):
        try:
            _start(services, stop, say)
            started = Started(services.file(), services.home.server_file)
            if import_from is not None:
                say(str(started.take_over(import_from, _interrupted(on_progress, stop))))
            elif is_embedded(started.file.parent):
                say("To move the studies and runs of this folder to the server: lab serve --import .lab")
            started.server.write(started.file)
            on_start(started)
            _keep(services, stop, say)
        except Stopped:
            pass


@contextmanager
def opened(
    folder: Path,
    host: str | None = None,
    mlflow_port: int | None = None,
    postgres_port: int | None = None,
    say: Say = lambda text: None,
) -> Iterator[Services]:
    """Claim the server of `folder` for this process, without starting it, and end what a crashed one left.

    Raises:
        LabError: another process has it, or it cannot be started.
    """
    home, who, listening = Home(folder.resolve()), account(), listening_at(host or LOOPBACK)
    if home.server_file.exists() and not home.server.exists():
        raise ConfigError(f"{home.server_file} names another server; move it away to start one here")
    home.create(passable=who is not None)
    with claimed(home) as died:
        if died and end_leftovers(home):
            say("The last `lab serve` was killed; the PostgreSQL and MLflow that it left were stopped")
        if not home.postgres.exists() and home.next_postgres.exists():
            home.next_postgres.rename(home.postgres)  # the last step of an upgrade, which was interrupted
        settings = _settled(home, listening.bind, mlflow_port, postgres_port, say)
        postgres = Postgres(home, settings, listening, find_binaries(home.postgres), who)
        mlflow = MlflowServer(home, settings, listening, postgres)
        yield Services(home, settings, postgres, mlflow)


def _settled(home: Home, bind: str, mlflow: int | None, postgres: int | None, say: Say) -> Settings:
    """Return the settings with the ports that are used now, and keep them."""
    before = read_settings(home, bind)
    if mlflow is not None and mlflow == postgres:
        raise ResourceError(
            f"--port {mlflow} --postgres-port {postgres}: MLflow and PostgreSQL need a port each"
        )
    for option, port in (("--port", mlflow), ("--postgres-port", postgres)):
        if port is not None and not is_free(bind, port):
            raise ResourceError(
                f"{option} {port}: another program uses that port of {bind}; name another one"
            )
    wanted = replace(
        before,
        mlflow_port=mlflow or before.mlflow_port,
        postgres_port=postgres or before.postgres_port,
    )
    if wanted.mlflow_port == wanted.postgres_port:  # one was given the port of the other, which makes way
        if postgres is None:
            wanted = replace(wanted, postgres_port=free_port(bind, wanted.mlflow_port))
        else:
            wanted = replace(wanted, mlflow_port=free_port(bind, wanted.postgres_port))
    settings = wanted.on_free_ports(bind)
    for what, given, old, new in (
        ("MLflow", mlflow, before.mlflow_port, settings.mlflow_port),
        ("PostgreSQL", postgres, before.postgres_port, settings.postgres_port),
    ):
        if given is None and old != new:
            say(f"Port {old} is taken, so {what} has moved to {new}: restart workers that use the old one")
    if settings != before:
        settings.write(home.settings)
    return settings


def _start(services: Services, stop: Stop, say: Say) -> None:
    fresh = "" if services.postgres.data.exists() else "; the first time takes half a minute"
    say(f"Starting {' and '.join(each.name for each in services.all)}{fresh}")
    services.postgres.create()
    services.postgres.start(stop)
    services.postgres.prepare()
    _create_tables(services)
    services.mlflow.create()
    services.mlflow.start(stop)


def _create_tables(services: Services) -> None:
    """Create the tables of the studies, or check that they are of this Optuna's version."""
    services.file().use(tracking=False)
    try:
        study.open_storage(services.postgres.url(STUDIES)).engine.dispose()
    except StudyError as error:
        raise StudyError(f"{error}. After an update of lab, use `lab serve --upgrade`") from None


def _interrupted(on_progress: Progress, stop: Stop) -> Progress:
    """Return the same, which breaks off what reports its progress when a stop is asked for."""

    def report(what: str, done: int, total: int) -> None:
        if stop():
            raise Stopped
        on_progress(what, done, total)

    return report


@contextmanager
def _stopping(services: Services) -> Iterator[None]:
    with ExitStack() as stack:
        stack.callback(note_stopped, services.home)
        stack.callback(services.stop)
        yield


def _keep(services: Services, stop: Stop, say: Say) -> None:
    """Restart what ends, until a stop is asked for; each by itself, because MLflow may wait long for PostgreSQL."""
    keepers = [threading.Thread(target=_Keeper(each, stop, say).keep, daemon=True) for each in services.all]
    for each in keepers:
        each.start()
    while not stop.wait(_LONGEST_PAUSE):
        pass
    for each in keepers:
        each.join()


class _Keeper:
    """Keeps one service running, with longer and longer pauses if it ends again and again."""

    def __init__(self, service: Service, stop: Stop, say: Say) -> None:
        self._service = service
        self._stop = stop
        self._say = say
        self._pause = 0.0
        self._since = time.monotonic()  # when it was started

    def keep(self) -> None:
        """Restart the service whenever it ends, until a stop is asked for."""
        while not self._stop.wait(_TICK):
            code = self._service.exit_code
            if code is not None:
                self._say(self._told(code))
                with suppress(Stopped):
                    self._restart()

    def _restart(self) -> None:
        while not self._stop.wait(self._next_pause()):
            self._since = time.monotonic()
            try:
                self._service.start(self._stop)
            except (LabError, OSError) as error:
                self._say(f"{error}. Trying again")
            else:
                self._say(f"{self._service.name} is running again")
                return

    def _next_pause(self) -> float:
        steady = time.monotonic() - self._since >= _STEADY_SECONDS
        self._pause = 0.0 if steady else min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
        return self._pause

    def _told(self, code: int) -> str:
        name, log = self._service.name, self._service.log
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{name} {how} and is being restarted; its log is {log}"
