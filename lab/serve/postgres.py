"""PostgreSQL in user space: made, started, stopped, and given lab's account and databases."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import ResourceError
from lab.extras import require
from lab.serve.binaries import Account, Binaries
from lab.serve.home import Home, Settings
from lab.serve.listening import Listening
from lab.serve.service import Service

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql
else:
    psycopg, sql = (require(name, "serve", "`lab serve`") for name in ("psycopg", "psycopg.sql"))

__all__ = ["AUTH", "DATABASES", "MLFLOW", "ROLE", "STUDIES", "Postgres", "plain_environment"]

ROLE = "lab"  # whose password is in the server file; it owns the databases, and is no superuser
OWNER = "postgres"  # the superuser, for this machine only
DATABASES = MLFLOW, AUTH, STUDIES = "mlflow", "auth", "studies"
_CONNECTIONS = 1200  # each worker has one, for moments two; MLflow has a few
_ACCESS = f"""\
# written by `lab serve` at every start
host all {OWNER} samehost scram-sha-256
host all {OWNER} all reject
host all all all scram-sha-256
"""


class Postgres(Service):
    """The database server of `lab serve`.

    Args:
        home: where its data is.
        settings: its port and passwords.
        listening: at which addresses it listens.
        binaries: its programs.
        account: which account runs it; that of this process if None.
    """

    stop_signal = signal.SIGINT  # "fast": it does not wait for clients
    stop_seconds = 60.0  # for its last checkpoint

    def __init__(
        self,
        home: Home,
        settings: Settings,
        listening: Listening,
        binaries: Binaries,
        account: Account | None,
    ) -> None:
        super().__init__(f"PostgreSQL {binaries.major}", home.log("postgres"), account)
        self.data = home.postgres
        self.binaries = binaries
        self._home = home
        self._settings = settings
        self._listening = listening

    def at(self, data: Path, binaries: Binaries) -> Postgres:
        """Return the same server with its data at another place, and of another version."""
        other = Postgres(self._home, self._settings, self._listening, binaries, self._account)
        other.data = data
        return other

    def create(self) -> None:
        """Make the data folder, if there is none; one that was not finished is made again.

        Raises:
            ResourceError: that fails, for example because the account that runs PostgreSQL cannot reach the folder.
        """
        self._check_places()
        if self.data.exists():
            return
        scratch = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        password = scratch.with_name("password.new")
        self._write_for_account(password, self._settings.owner_password)
        self._hand_over(scratch)
        try:
            self._run(
                "initdb",
                *("--pgdata", str(scratch), "--username", OWNER, "--pwfile", str(password)),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale"),
            )
        finally:
            password.unlink()
        scratch.rename(self.data)

    def prepare(self) -> None:
        """Give lab's account its password, and create the databases that are missing.

        Raises:
            ResourceError: the server refuses.
        """
        try:
            with self._connected() as server:
                _make_role(server, ROLE, self._settings.password)
                for name in DATABASES:
                    _make_database(server, name)
                server.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        except psycopg.Error as error:
            raise ResourceError(f"{self.name} cannot be prepared: {str(error).strip()}") from None

    def url(self, database: str) -> str:
        """Return the address of a database, without the password."""
        return self._listening.url("postgresql", self._settings.postgres_port, f"/{database}", ROLE)

    def command(self) -> Sequence[str]:
        """See `Service`."""
        options = {
            "listen_addresses": self._listening.bind,
            "port": self._settings.postgres_port,
            "unix_socket_directories": "",  # the path of a socket may be too long, and everybody here would see it
            "max_connections": _CONNECTIONS,
            "log_checkpoints": "off",
            "timezone": "UTC",  # Optuna's times have none: at the end of summer time, every worker would seem silent
        }
        pairs = [f"{name}={value}" for name, value in options.items()]
        return [
            self.binaries.path("postgres"),
            *("-D", str(self.data)),
            *(part for pair in pairs for part in ("-c", pair)),
        ]

    def environment(self) -> Mapping[str, str]:
        """See `Service`."""
        return plain_environment()

    def folder(self) -> Path:
        """See `Service`."""
        return self.data

    def answers(self) -> bool:
        """See `Service`."""
        try:
            self._connected().close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise ResourceError(
                    f"{self.name} refuses the password in settings.json next to {self.data}: "
                    "restore both from the same backup"
                ) from None
            return False
        return True

    def dump(self, database: str, file: Path) -> None:
        """Write a database into a file that only the account which runs the server may read.

        Raises:
            ResourceError: that fails.
        """
        self._write_for_account(file, "")
        self._run(
            "pg_dump",
            *(*self._address(), "--dbname", database, "--file", str(file)),
            secret=self._settings.owner_password,
        )

    def load(self, database: str, file: Path) -> None:
        """Read into an empty database what another version has dumped.

        Raises:
            ResourceError: that fails.
        """
        self._run(
            "psql",
            *(*self._address(), "--no-psqlrc", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1"),
            *("--dbname", database, "--file", str(file)),
            secret=self._settings.owner_password,
        )

    def _address(self) -> Sequence[str]:
        port = str(self._settings.postgres_port)
        return ("--host", self._listening.here, "--port", port, "--username", OWNER)

    def _connected(self) -> psycopg.Connection:
        """Return a superuser's connection, on which each statement is a transaction."""
        return psycopg.connect(
            host=self._listening.here,
            port=self._settings.postgres_port,
            user=OWNER,
            password=self._settings.owner_password,
            dbname="postgres",
            connect_timeout=10,
            autocommit=True,
        )

    def _open(self) -> None:
        self._write_for_account(self.data / "pg_hba.conf", _ACCESS)
        super()._open()

    def _run(self, program: str, *arguments: str, secret: str = "") -> None:
        as_account = self._account.options if self._account else {}
        environment = plain_environment() | ({"PGPASSWORD": secret} if secret else {})
        done = subprocess.run(
            [self.binaries.path(program), *arguments],
            cwd=self.data.parent,
            env=environment,
            capture_output=True,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for `lab serve`
            **as_account,
        )
        if done.returncode:
            raise ResourceError(f"`{program}` of {self.name} failed: {_reason(done.stderr)}")

    def _check_places(self) -> None:
        """Raise if the account that runs the server cannot reach its programs or its data."""
        if self._account is None:
            return
        for folder in (self.binaries.folder, self.data.parent):
            look = ["/bin/sh", "-c", 'cd "$0"', str(folder)]
            if subprocess.run(look, cwd="/", capture_output=True, **self._account.options).returncode:
                raise ResourceError(
                    f"PostgreSQL refuses to run as root, and the account `{self._account.name}`, which runs it "
                    f"instead, cannot enter {folder}. Run `lab serve` as another user, or make the folders above it "
                    "passable: chmod o+x"
                )

    def _write_for_account(self, file: Path, text: str) -> None:
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            output.write(text)
        self._hand_over(file)

    def _hand_over(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.user, self._account.group)


def plain_environment() -> dict[str, str]:
    """Return this process's environment without what would lead programs to other servers."""
    ours = ("PG", "MLFLOW_TRACKING_", "MLFLOW_AUTH_", "MLFLOW_RUN_ID", "_MLFLOW_", "LAB_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _make_role(server: psycopg.Connection, role: str, password: str) -> None:
    """Create an account if it does not exist, and set its password, which is sent and logged only as a hash."""
    name = sql.Identifier(role)
    if not server.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        server.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    hashed = server.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    server.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, hashed.decode()))


def _make_database(server: psycopg.Connection, name: str) -> None:
    """Create a database if it does not exist, for lab's account only."""
    database = sql.Identifier(name)
    if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
        server.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, sql.Identifier(ROLE)))
    server.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))


def _reason(said: str) -> str:
    """Return why a program of PostgreSQL failed: what its server said, such as that the disk is full, or its end."""
    reasons = re.findall(r"\b(?:ERROR|FATAL|PANIC|HINT):.*", said)
    return " ".join(line.strip() for line in reasons or said.strip().splitlines()[-3:])
