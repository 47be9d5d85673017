"""What is refused, what cannot be reached, and where no password appears."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from .conftest import IMAGE, REPOSITORY, Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

SERVICES = ("postgres", "mlflow", "worker", "dashboard")
SEARCH = "mlflow/experiments/search"


def inspected(stack: Stack) -> dict[str, Any]:
    names = [stack.container(service) for service in (*SERVICES, "migrate")]
    found = json.loads(stack.docker("inspect", *names))
    return dict(zip((*SERVICES, "migrate"), found, strict=True))


def test_without_a_password(stack: Stack) -> None:
    assert stack.ask("POST", SEARCH, json={"max_results": 1}).status_code == 401
    assert requests.get(stack.url, timeout=30).status_code == 401


@pytest.mark.parametrize("user", ["admin", "worker", "nobody"])
def test_a_wrong_password(stack: Stack, user: str) -> None:
    answer = requests.post(
        f"{stack.url}/api/2.0/{SEARCH}", json={"max_results": 1}, auth=(user, "password1234"), timeout=30
    )
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "command", ["submit grids/quickstart.yaml", "worker --idle-exit 1", "train --epochs 1"]
)
def test_a_wrong_password_is_one_clear_error(stack: Stack, command: str) -> None:
    run = [
        "docker",
        "compose",
        "run",
        "--rm",
        "-T",
        "--env",
        "MLFLOW_TRACKING_PASSWORD=wrong-password",
        "lab",
    ]
    done = subprocess.run(
        [*run, *command.split()], cwd=stack.folder, capture_output=True, text=True, timeout=200
    )
    told = done.stdout + done.stderr
    assert done.returncode not in (0, 143), told
    assert "MLFLOW_TRACKING_PASSWORD" in told
    assert "Traceback" not in told


def test_a_wrong_password_of_the_database_is_one_clear_error(stack: Stack) -> None:
    done = stack.lab("status", "--storage", "postgresql://lab:wrong-password@database/lab")
    assert done.returncode == 1
    assert "password authentication failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "wrong-password" not in done.stderr


def test_a_reader_reads_and_writes_nothing(stack: Stack, study: str) -> None:
    experiment = stack.experiment(study)
    run = stack.runs(study)[0].info.run_id
    place = f"{experiment.artifact_location.removeprefix('mlflow-artifacts:/')}/{run}/artifacts"
    assert stack.ask("GET", "mlflow/runs/get", "reader", params={"run_id": run}).ok
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "mlflow/experiments/create", {"json": {"name": "mine"}}),
        ("POST", "mlflow/experiments/delete", {"json": {"experiment_id": experiment.experiment_id}}),
        ("POST", "mlflow/runs/create", {"json": {"experiment_id": experiment.experiment_id}}),
        ("POST", "mlflow/runs/update", {"json": {"run_id": run, "status": "FAILED"}}),
        ("POST", "mlflow/runs/delete", {"json": {"run_id": run}}),
        ("POST", "mlflow/runs/log-metric", {"json": {"run_id": run, "key": "k", "value": 1, "timestamp": 1}}),
        ("POST", "mlflow/runs/log-batch", {"json": {"run_id": run, "tags": [{"key": "k", "value": "v"}]}}),
        ("POST", "mlflow/registered-models/create", {"json": {"name": "mine"}}),
        ("PUT", f"mlflow-artifacts/artifacts/{place}/x.txt", {"data": b"x"}),
        ("DELETE", f"mlflow-artifacts/artifacts/{place}/config.yaml", {}),
        ("POST", "mlflow/users/create", {"json": {"username": "me", "password": "0123456789abcdef"}}),
        ("PATCH", "mlflow/users/update-admin", {"json": {"username": "reader", "is_admin": True}}),
    ]
    codes = {path: stack.ask(method, path, "reader", **body).status_code for method, path, body in writes}
    assert codes == dict.fromkeys(codes, 403)


def test_the_worker_is_no_administrator(stack: Stack) -> None:
    body = {"username": "worker", "is_admin": True}
    assert stack.ask("PATCH", "mlflow/users/update-admin", "worker", json=body).status_code == 403
    created = {"username": "me", "password": "0123456789abcdef"}
    assert stack.ask("POST", "mlflow/users/create", "worker", json=created).status_code == 403


def test_a_foreign_host_is_refused(stack: Stack) -> None:
    answer = stack.ask(
        "POST", SEARCH, "reader", json={"max_results": 1}, headers={"Host": "evil.example.org"}
    )
    assert answer.status_code == 403
    assert "Invalid Host header" in answer.text


@pytest.mark.parametrize("origin", ["https://evil.example.org", "http://localhost:3000", "null"])
def test_a_foreign_origin_is_refused(stack: Stack, origin: str) -> None:
    headers = {"Origin": origin}
    answer = stack.ask("POST", "mlflow/experiments/create", "worker", json={"name": "x"}, headers=headers)
    assert answer.status_code == 403
    read = stack.ask("POST", SEARCH, "worker", json={"max_results": 1}, headers=headers)
    assert (read.status_code, read.text) == (403, "Cross-origin request blocked")
    assert "Access-Control-Allow-Origin" not in read.headers
    its_own = stack.ask("POST", SEARCH, "worker", json={"max_results": 1}, headers={"Origin": stack.url})
    assert its_own.status_code == 200


def test_guesses_keep_nobody_waiting(stack: Stack) -> None:
    assert stack.ask("POST", SEARCH, "reader", json={"max_results": 1}).ok
    address, ask = f"{stack.url}/api/2.0/{SEARCH}", {"json": {"max_results": 1}, "timeout": 30}
    answers = [requests.post(address, auth=("admin", f"wrong {n}"), **ask) for n in range(60)]  # type: ignore[arg-type]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert stack.ask("POST", SEARCH, "reader", json={"max_results": 1}).ok


@pytest.mark.parametrize(
    "path",
    [
        "../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "%252e%252e%252fetc%252fpasswd",
        "%2fetc%2fpasswd",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_artifacts_do_not_lead_out_of_their_folder(stack: Stack, method: str, path: str) -> None:
    session = requests.Session()
    request = requests.Request(
        method, stack.url, auth=stack.account("admin"), data=b"x" if method == "PUT" else None
    )
    prepared = session.prepare_request(request)
    prepared.url = f"{stack.url}/api/2.0/mlflow-artifacts/artifacts/{path}"  # verbatim: not normalised
    answer = session.send(prepared, timeout=30, allow_redirects=False)
    # a double slash is redirected to a path inside
    assert answer.is_redirect or 400 <= answer.status_code < 500, answer.text
    inside = f"{stack.url}/api/2.0/mlflow-artifacts/artifacts/etc/passwd"
    assert answer.headers.get("Location", inside) == inside
    assert "root:" not in answer.text


def test_the_dashboard_cannot_write(stack: Stack, study: str) -> None:
    deleted = requests.delete(f"http://127.0.0.1:{stack.dashboard_port}/api/studies/1", timeout=30)
    assert deleted.status_code == 403
    assert stack.states(study)
    refused = query(stack, "dashboard", "lab", "UPDATE trials SET state = 'FAIL'")
    assert "read-only transaction" in refused
    allow = "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"
    refused = query(stack, "dashboard", "lab", allow, "DELETE FROM studies")
    assert "permission denied" in refused


def test_the_dashboard_has_names_of_its_own(stack: Stack) -> None:
    address = f"http://127.0.0.1:{stack.dashboard_port}/api/studies"
    assert requests.get(address, timeout=30).ok
    foreign = requests.get(address, headers={"Host": f"evil.example.org:{stack.dashboard_port}"}, timeout=30)
    assert foreign.status_code == 403


def test_no_role_drops_a_table_or_takes_every_connection(stack: Stack) -> None:
    for role, database, table in (("lab", "lab", "trials"), ("mlflow", "mlflow", "runs")):
        assert "must be owner" in query(stack, role, database, f"DROP TABLE {table}")
        assert "permission denied for schema public" in query(stack, role, database, "CREATE TABLE mine ()")
    assert "permission denied" in query(stack, "lab", "lab", "DELETE FROM studies")
    limits = "SELECT count(*) FROM pg_roles WHERE rolcanlogin AND NOT rolsuper AND rolconnlimit NOT BETWEEN 1 AND 100"
    assert "0" in query(stack, "postgres", "postgres", limits).split()


def test_a_person_gets_accounts_of_her_own_and_loses_them(stack: Stack) -> None:
    made = stack.make("user", "NAME=ann")
    assert made.returncode == 0, made.stderr
    folder = stack.secrets / "people" / "ann"
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(folder / "credentials")
    ann = ("ann", parser["mlflow"]["mlflow_tracking_password"])
    words = [ann[1], (folder / "pgpass").read_text().strip().rsplit(":", 1)[1]]
    assert not [word for word in words if word in made.stdout + made.stderr + stack.compose("logs")]

    def ask(path: str, body: dict[str, Any]) -> requests.Response:
        return requests.post(f"{stack.url}/api/2.0/mlflow/{path}", json=body, auth=ann, timeout=30)

    others = stack.ask("POST", "mlflow/experiments/create", "admin", json={"name": "of the admin"}).json()
    mine = ask("experiments/create", {"name": "of ann"}).json()
    assert ask("runs/create", others).ok
    assert ask("experiments/delete", others).status_code == 403
    assert stack.ask("POST", "mlflow/experiments/delete", "worker", json=mine).status_code == 403
    assert ask("experiments/delete", mine).ok
    assert "(" in query(stack, "ann", "lab", "SELECT count(*) FROM studies")
    assert "must be owner" in query(stack, "ann", "lab", "DROP TABLE trials")
    assert "permission denied" in query(stack, "ann", "lab", "DELETE FROM studies")
    assert 'permission denied for database "mlflow"' in query(stack, "ann", "mlflow", "SELECT 1")

    assert stack.make("remove-user", "NAME=ann").returncode == 0
    assert not folder.exists()
    assert 'role "ann" does not exist' in query(stack, "ann", "lab", "SELECT 1")
    users = stack.ask("GET", "mlflow/users/get", "admin", params={"username": "ann"})
    assert users.status_code == 404


@pytest.mark.parametrize("name", ["lab", "worker", "postgres", "../x"])
def test_accounts_of_the_service_are_nobodys(stack: Stack, name: str) -> None:
    refused = stack.make("user", f"NAME={name}")
    assert refused.returncode != 0
    assert "account" in refused.stderr + refused.stdout
    assert not (stack.secrets / "people" / name).exists()


def test_what_died_half_way_or_an_older_version_left_is_made_good(stack: Stack) -> None:
    older = [
        "ALTER DATABASE lab OWNER TO lab",
        "REVOKE trainers FROM lab",
        "GRANT CONNECT ON DATABASE postgres TO PUBLIC",
    ]
    query(stack, "postgres", "postgres", *older)
    query(stack, "postgres", "lab", "ALTER TABLE trials OWNER TO lab")
    role = "(SELECT id FROM roles WHERE name = 'worker')"
    held = f"SELECT resource_type, permission FROM role_permissions WHERE role_id = {role} ORDER BY 1"
    before = query(stack, "postgres", "mlflow", held)
    assert "MANAGE" not in before
    spoilt = ["DELETE FROM role_permissions WHERE resource_type = 'workspace' AND role_id = " + role]
    spoilt += [f"UPDATE role_permissions SET permission = 'MANAGE' WHERE role_id = {role}"]
    query(stack, "postgres", "mlflow", *spoilt, "DELETE FROM user_role_assignments WHERE role_id = " + role)
    assert query(stack, "postgres", "mlflow", held) != before
    stack.compose("run", "--rm", "-T", "migrate")
    assert query(stack, "postgres", "mlflow", held) == before
    assert stack.ask("POST", "mlflow/experiments/create", "worker", json={"name": "made good"}).ok
    assert "must be owner" in query(stack, "lab", "lab", "DROP TABLE trials")
    assert "permission denied for database" in query(stack, "lab", "postgres", "SELECT 1")
    assert "(1 row)" in query(stack, "lab", "lab", "SELECT count(*) FROM trials")


@pytest.mark.parametrize(
    ("role", "database"),
    [
        ("lab", "mlflow"),
        ("dashboard", "mlflow"),
        ("mlflow", "lab"),
        ("lab", "postgres"),
        ("lab", "template1"),
    ],
)
def test_a_role_enters_only_its_own_database(stack: Stack, role: str, database: str) -> None:
    assert f'permission denied for database "{database}"' in query(stack, role, database, "SELECT 1")


def query(stack: Stack, role: str, database: str, *statements: str) -> str:
    """Run statements as a role, on the server's socket; return the output."""
    server = stack.container("postgres")
    command = ["docker", "exec", server, "psql", f"--username={role}", f"--dbname={database}"]
    command += [f"--command={statement}" for statement in statements]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_ports_are_open_to_this_machine_only(stack: Stack) -> None:
    for service, found in inspected(stack).items():
        bindings = found["NetworkSettings"]["Ports"] or {}
        addresses = {one["HostIp"] for ends in bindings.values() for one in ends or []}
        assert addresses <= {"127.0.0.1"}, service


def test_containers_can_change_nothing_of_themselves(stack: Stack) -> None:
    for service, found in inspected(stack).items():
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert not host["Privileged"], service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert host["LogConfig"]["Config"] == {"max-file": "5", "max-size": "10m"}, service
    for service in ("mlflow", "worker", "dashboard"):
        assert int(stack.docker("exec", stack.container(service), "id", "-u")) > 0


def test_no_password_is_to_be_seen(stack: Stack, study: str) -> None:
    told = json.dumps(inspected(stack)) + stack.compose("logs") + stack.docker("history", "--no-trunc", IMAGE)
    for service in SERVICES:
        told += stack.docker("top", stack.container(service), "-eo", "pid,args")
    for run in stack.runs(study):
        told += json.dumps(run.to_dictionary())
    told += (stack.folder / ".env").read_text()
    assert [word for word in stack.passwords if word in told] == []


def test_secret_files_are_their_owners(stack: Stack) -> None:
    assert {file.stat().st_mode & 0o777 for file in stack.secrets.iterdir() if file.is_file()} == {0o600}


def test_the_image_holds_neither_secrets_nor_caches(stack: Stack) -> None:
    names = [
        "-name",
        ".env",
        "-o",
        "-name",
        "pgpass*",
        "-o",
        "-name",
        ".git",
        "-o",
        "-path",
        "*/.cache/pip/*",
    ]
    search = ["find", "/", "-xdev", "-not", "-path", "/proc/*", "(", *names, ")"]
    found = stack.docker("run", "--rm", "--user", "0", "--entrypoint", search[0], IMAGE, *search[1:])
    assert found.split() == []


@pytest.mark.parametrize(
    ("service", "host", "port", "open_"),
    [
        ("worker", "mlflow", 5000, True),
        ("worker", "database", 5432, True),
        ("worker", "dashboard", 8080, False),
        ("worker", "192.0.2.1", 80, False),
        ("dashboard", "mlflow", 5000, False),
        ("dashboard", "192.0.2.1", 80, False),
        ("mlflow", "dashboard", 8080, False),
    ],
)
def test_services_reach_only_what_they_need(
    stack: Stack, service: str, host: str, port: int, open_: bool
) -> None:
    program = f"import socket; socket.create_connection(({host!r}, {port}), 3)"
    command = ["docker", "exec", stack.container(service), "python", "-c", program]
    assert (subprocess.run(command, capture_output=True, timeout=60).returncode == 0) is open_


@pytest.mark.parametrize("options", [[], ["--file", "docker/compose.yaml"]])
def test_starting_without_secrets_says_what_to_do(tmp_path: Path, options: list[str]) -> None:
    for name in ("compose.yaml", "docker/compose.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    command = ["docker", "compose", *options, "up"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "run `make secrets` first" in done.stderr


def test_making_secrets_again_changes_none(stack: Stack) -> None:
    before = {file: file.read_bytes() for file in stack.secrets.rglob("*") if file.is_file()}
    assert stack.make("secrets").returncode == 0
    assert {file: file.read_bytes() for file in stack.secrets.rglob("*") if file.is_file()} == before
