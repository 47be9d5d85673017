"""compose.tls.yaml: a proxy with TLS is the only way in, to MLflow and to the dashboard."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from tests.servers import free_port

from .conftest import WORKERS, Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

NAME = "localhost"  # the name in the certificate


@dataclass(frozen=True)
class Door:
    """The addresses of the proxy, and the certificate to trust."""

    mlflow: str
    dashboard: str
    certificate: str
    metrics: int  # the first port of the workers' metrics


@pytest.fixture(scope="module")
def door(stack: Stack) -> Iterator[Door]:
    settings = stack.folder / ".env"
    before = settings.read_text()
    port, dashboard_port, metrics = free_port(), free_port(), free_port()
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    files = ["-keyout", str(stack.secrets / "tls_key"), "-out", str(stack.secrets / "tls_certificate")]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject, *files]
    subprocess.run(make, check=True, capture_output=True)
    certificate = stack.folder / "certificate.pem"
    certificate.write_bytes((stack.secrets / "tls_certificate").read_bytes())
    assert stack.make("secrets").returncode == 0  # the new files get their owner and mode
    settings.write_text(
        f"{before}COMPOSE_FILE=docker/compose.yaml:docker/compose.tls.yaml:docker/compose.metrics.yaml\n"
        f"LAB_METRICS_PORTS={metrics}-{metrics + WORKERS - 1}\n"
        f"LAB_NAME={NAME}\nLAB_PROXY_IMAGE=lab-proxy:test\nLAB_TLS_ADDRESS=127.0.0.1\n"
        f"LAB_TLS_PORT={port}\nLAB_TLS_DASHBOARD_PORT={dashboard_port}\n"
    )
    try:
        stack.up("--build")
        yield Door(f"https://{NAME}:{port}", f"https://{NAME}:{dashboard_port}", str(certificate), metrics)
    finally:
        settings.write_text(before)
        stack.up("--remove-orphans")


def test_mlflow_is_behind_it(stack: Stack, door: Door) -> None:
    search = f"{door.mlflow}/api/2.0/mlflow/experiments/search"
    ask = {"json": {"max_results": 1}, "verify": door.certificate, "timeout": 30}
    assert requests.post(search, **ask).status_code == 401  # type: ignore[arg-type]
    answer = requests.post(search, auth=stack.account("reader"), **ask)  # type: ignore[arg-type]
    assert answer.status_code == 200
    assert "max-age" in answer.headers["Strict-Transport-Security"]


def test_the_dashboard_asks_for_mlflows_accounts(stack: Stack, door: Door) -> None:
    studies = f"{door.dashboard}/api/studies"
    for auth, code in ((None, 401), (("reader", "password1234"), 401), (stack.account("reader"), 200)):
        answer = requests.get(studies, auth=auth, verify=door.certificate, timeout=30)
        assert answer.status_code == code
        assert "max-age" in answer.headers["Strict-Transport-Security"]
    ask = {"auth": stack.account("reader"), "verify": door.certificate, "timeout": 30}
    foreign = requests.get(studies, headers={"Host": "evil.example.org"}, **ask)  # type: ignore[arg-type]
    assert foreign.status_code == 403
    assert requests.delete(f"{studies}/1", **ask).status_code == 403  # type: ignore[arg-type]


def test_guesses_are_counted_behind_the_proxy_too(stack: Stack, door: Door) -> None:
    for address in (f"{door.mlflow}/api/2.0/mlflow/users/current", f"{door.dashboard}/api/studies"):
        codes = [
            requests.get(
                address, auth=("admin", f"wrong {n}"), verify=door.certificate, timeout=30
            ).status_code
            for n in range(60)
        ]
        assert codes[-1] == 429
        assert set(codes) <= {401, 429}


def test_workers_are_measured_from_outside(stack: Stack, door: Door) -> None:
    for port in range(door.metrics, door.metrics + WORKERS):
        told = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30)
        assert told.ok
        assert "lab_" in told.text


def test_there_is_no_other_door(stack: Stack, door: Door) -> None:
    for port in (stack.port, stack.dashboard_port):
        with pytest.raises(requests.ConnectionError, match="Connection refused"):
            requests.get(f"http://127.0.0.1:{port}", timeout=10)
    with pytest.raises(requests.exceptions.SSLError, match="certificate verify failed"):
        requests.get(door.mlflow, timeout=10)


def test_workers_still_train(stack: Stack, door: Door) -> None:
    trained = stack.lab("train", "--dataset", "digits", "--epochs", "1", "--experiment", "behind the proxy")
    assert trained.returncode == 0, trained.stderr
