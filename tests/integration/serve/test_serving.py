"""`lab serve`, run as its users do."""

from __future__ import annotations

import signal
import stat

import psutil
import psycopg
import pytest
import requests

from lab.serve.binaries import found_binaries
from tests.integration.serve.conftest import Serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # MLflow takes long to start on a busy machine

SEARCH = "api/2.0/mlflow/experiments/search"


def found_in_mlflow(serving: Serving, password: str | None = None, **headers: str) -> requests.Response:
    server = serving.server
    return requests.post(
        f"{server.tracking_uri}/{SEARCH}",
        json={"max_results": 1},
        auth=(server.username, password or server.password),
        headers=headers,
        timeout=30,
    )


def connected(serving: Serving, user: str = "lab", database: str = "studies", password: str | None = None):
    address = psycopg.conninfo.conninfo_to_dict(serving.server.storage)
    return psycopg.connect(
        **address | {"user": user, "dbname": database, "password": password or serving.server.password}
    )


def note(serving: Serving, name: str) -> None:
    """Write a study and an experiment of that name."""
    with connected(serving) as connection:
        connection.execute(
            "INSERT INTO studies (study_id, study_name) VALUES ((SELECT count(*) + 1 FROM studies), %s)",
            [name],
        )
    server = serving.server
    answer = requests.post(
        f"{server.tracking_uri}/api/2.0/mlflow/experiments/create",
        json={"name": name},
        auth=(server.username, server.password),
        timeout=30,
    )
    answer.raise_for_status()


def noted(serving: Serving) -> tuple[set[str], set[str]]:
    """Return the names of studies and of experiments."""
    with connected(serving) as connection:
        studies = {name for (name,) in connection.execute("SELECT study_name FROM studies")}
    server = serving.server
    answer = requests.post(
        f"{server.tracking_uri}/{SEARCH}",
        json={"max_results": 10},
        auth=(server.username, server.password),
        timeout=30,
    )
    return studies, {each["name"] for each in answer.json()["experiments"]}


def test_it_says_where_it_is(running: Serving) -> None:
    server, file = running.server, running.home.server_file
    assert f"MLflow UI: {server.tracking_uri}/#/experiments?workflowType=machine_learning\n" in running.said
    assert f"user name: lab, password: in {file}\n" in running.said
    assert f"export LAB_SERVER={file}\n" in running.said
    status = running.run("serve", "--status")
    assert (status.returncode, status.stderr) == (0, "")
    assert status.stdout.splitlines() == [
        f"process {server.pid} on {server.host}; server file {file}",
        f"MLflow UI: {server.tracking_uri}",
        f"PostgreSQL: {server.storage}",
    ]


def test_other_commands_use_it(running: Serving) -> None:
    assert running.run("status").stdout == "No studies yet: `lab sweep GRID` creates one\n"
    assert not (running.home.folder / "optuna.db").exists()
    doctor = running.run("doctor")
    assert f"process {running.server.pid} on {running.server.host}" in " ".join(doctor.stdout.split())
    assert doctor.returncode == 0, doctor.stdout


def test_a_second_one_says_where_the_first_is(running: Serving) -> None:
    second = running.run("serve")
    assert second.returncode == 1
    assert second.stderr == (
        f"Error: `lab serve` already runs in {running.home.folder}: process {running.server.pid}, "
        f"at {running.server.tracking_uri}\n"
    )
    assert running.run("serve", "--status").returncode == 0


def test_only_its_owner_may_read_its_files(running: Serving) -> None:
    server = running.home.server
    files = [running.home.server_file, *(each for each in server.iterdir() if each.is_file())]
    assert {"settings.json", "auth.ini", "postgres.log", "mlflow.log", "lock"} <= {
        each.name for each in files
    }
    assert {each.name: oct(stat.S_IMODE(each.stat().st_mode)) for each in files} == {
        each.name: "0o600" for each in files
    }
    assert stat.S_IMODE(running.home.artifacts.stat().st_mode) == 0o700
    assert stat.S_IMODE(running.home.postgres.stat().st_mode) == 0o700
    assert not stat.S_IMODE(server.stat().st_mode) & (stat.S_IRGRP | stat.S_IROTH)


def test_strangers_are_refused(running: Serving) -> None:
    assert found_in_mlflow(running).status_code == 200
    assert found_in_mlflow(running, "guessed").status_code == 401
    assert requests.post(f"{running.server.tracking_uri}/{SEARCH}", json={}, timeout=30).status_code == 401
    assert found_in_mlflow(running, Host="evil.example:80").status_code == 403
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connected(running, password="guessed")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connected(running, user="postgres")  # whoever uses the stores does not own the server
    with connected(running) as connection:
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    assert row == (False,)
    rules = (running.home.postgres / "pg_hba.conf").read_text().splitlines()[1:]
    assert {rule.split()[-1] for rule in rules} == {"scram-sha-256", "reject"}


def test_no_password_is_on_a_command_line_or_in_a_log(running: Serving) -> None:
    settings = running.home.settings.read_text()
    secrets = [word for word in settings.split('"') if len(word) == 32]
    assert len(secrets) == 3
    lines = [word for each in psutil.process_iter(["cmdline"]) for word in each.info["cmdline"] or []]
    texts = [*lines, *running.logs(), running.said, running.server.tracking_uri, running.server.storage]
    assert [text for text in texts for secret in secrets if secret in text] == []


def test_stopped_and_started_again_everything_is_there(serving: Serving) -> None:
    serving.start()
    before = serving.server
    note(serving, "kept")
    stopped = serving.run("serve", "--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Stopped\n")
    assert serving.process is not None
    assert serving.process.wait(150) == 128 + signal.SIGTERM
    away = serving.run("status")
    assert away.returncode == 1
    assert "names is not running: start it with `lab serve`" in away.stderr
    assert serving.run("serve", "--status").returncode == 1
    detached = serving.run("serve", "--detach")
    assert "`lab serve --stop` stops the server" in detached.stdout
    assert noted(serving) == ({"kept"}, {"kept", "Default"})
    assert (serving.server.tracking_uri, serving.server.storage) == (before.tracking_uri, before.storage)


def test_killed_and_started_again_everything_is_there(serving: Serving) -> None:
    serving.start()
    before = serving.server
    note(serving, "kept")
    serving.kill()
    left = [serving.postgres(), serving.mlflow()]
    serving.start()
    assert "the PostgreSQL and MLflow that it left were stopped" in serving.said
    assert not any(each.is_running() for each in left)
    assert noted(serving) == ({"kept"}, {"kept", "Default"})
    assert (serving.server.tracking_uri, serving.server.storage) == (before.tracking_uri, before.storage)


def test_what_crashes_is_started_again(serving: Serving) -> None:
    serving.start()
    note(serving, "kept")
    serving.postgres().kill()
    serving.mlflow().kill()
    serving.until(
        lambda: "PostgreSQL 18 is running again" in serving.said and "MLflow is running again" in serving.said
    )
    assert "was killed by signal 9 and is being restarted; its log is" in serving.said
    assert noted(serving) == ({"kept"}, {"kept", "Default"})


def test_others_reach_it_by_the_name_of_this_machine(serving: Serving) -> None:
    serving.start("--host", "0.0.0.0")
    own = [
        one.address
        for each in psutil.net_if_addrs().values()
        for one in each
        if one.family.name == "AF_INET" and not one.address.startswith("127.")
    ]
    assert serving.server.host not in ("", "127.0.0.1")
    for address in own:
        port = serving.server.tracking_uri.rpartition(":")[2]
        url = f"http://{address}:{port}"
        auth = (serving.server.username, serving.server.password)
        origin = {"Origin": url}  # as a browser sends it for MLflow's own pages
        answer = requests.post(
            f"{url}/{SEARCH}", json={"max_results": 1}, auth=auth, headers=origin, timeout=30
        )
        assert answer.status_code == 200, answer.text
        other = requests.post(
            f"{url}/{SEARCH}", json={}, auth=auth, headers={"Origin": "http://evil.example"}, timeout=30
        )
        assert other.status_code == 403
    assert found_in_mlflow(serving, "guessed").status_code == 401
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connected(serving, password="guessed")


def test_the_databases_of_an_older_postgresql_are_moved(serving: Serving) -> None:
    versions = sorted(each.major for each in found_binaries())
    older, newer = versions[0], versions[-1]
    assert older < newer
    serving.start(postgresql=older)
    note(serving, "kept")
    assert "already runs" in serving.run("serve", "--upgrade").stderr
    serving.run("serve", "--stop")
    upgraded = serving.run("serve", "--upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    assert f"Copying the databases from PostgreSQL {older} to PostgreSQL {newer}\n" in upgraded.stderr
    assert (serving.home.server / f"postgres.{older}" / "PG_VERSION").exists()
    assert list(serving.home.server.glob("*.sql")) == []
    serving.start()
    assert f"Starting PostgreSQL {newer} and MLflow\n" in serving.said
    assert noted(serving) == ({"kept"}, {"kept", "Default"})


def test_what_a_folder_has_already_is_imported(serving: Serving) -> None:
    (serving.folder / "grid.yaml").write_text(
        "name: tiny\nbase: {dataset: digits}\ngrid: {lr: [0.01, 0.02]}\n"
    )
    queued = serving.run("submit", "grid.yaml")
    assert queued.returncode == 0, queued.stderr
    serving.start()
    assert "of this folder to the server: lab serve --import .lab\n" in serving.said
    assert serving.run("status").stdout == "No studies yet: `lab sweep GRID` creates one\n"
    imported = serving.run("serve", "--import", ".lab")
    assert imported.stdout.startswith("Imported 1 study (tiny) with 2 trials"), imported.stderr
    assert serving.run("status", "tiny").stdout == "tiny: 2 waiting\n"
    again = serving.run("serve", "--import", ".lab", "--detach")  # changes nothing while the server runs
    assert again.returncode == 2
    assert "was imported before" in again.stderr
