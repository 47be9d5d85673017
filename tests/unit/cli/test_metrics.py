"""What `lab worker --metrics` counts, and where it can be read."""

from __future__ import annotations

import sys

import pytest
import requests

from lab.cli.metrics import Metrics, parse_address, served
from lab.errors import ConfigError
from lab.study import (
    EpochEnded,
    TrialEnded,
    TrialQueue,
    TrialStarted,
    WorkerDied,
    WorkerFailed,
    open_storage,
    open_study,
)


@pytest.fixture
def queue(url: str) -> TrialQueue:
    return open_study(open_storage(url), "tiny", ["maximize"])[0]


def read(url: str) -> dict[str, float]:
    lines = [line for line in requests.get(url, timeout=5).text.splitlines() if line.startswith("lab_")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_what_is_counted(queue: TrialQueue) -> None:
    metrics = Metrics(lambda: 7, "1.2")
    for event in (
        TrialStarted(0, "a", 2),
        TrialStarted(1, "b", 2),
        TrialStarted(2, "c", 2),
        EpochEnded(0, 1, {"val_accuracy": 0.5}),
        EpochEnded(1, 1, {"val_accuracy": 0.5}),
        TrialEnded(0, "a", "completed", 0.5),
        WorkerFailed("no answer"),
        WorkerDied(1, "b", "no answer"),
    ):
        metrics.event(queue, event)
    metrics.trouble("no answer")
    with served(metrics, "0") as url:
        assert url.startswith("http://127.0.0.1:")
        found = read(url)
        assert "# HELP lab_trials_total " in (text := requests.get(url, timeout=5).text)
        assert "process_cpu_seconds_total" in text
    build = next(name for name in found if name.startswith("lab_build_info"))
    assert 'version="1.2"' in build
    assert {name: value for name, value in found.items() if name != build} == {
        'lab_trials_total{outcome="completed",study="tiny"}': 1,
        'lab_trials_total{outcome="lost",study="tiny"}': 1,
        'lab_trials_running{study="tiny"}': 1,
        'lab_epochs_total{study="tiny"}': 2,
        "lab_troubles_total": 2,
        "lab_undelivered_writes": 7,
    }
    with pytest.raises(requests.ConnectionError, match="refused"):
        requests.get(url, timeout=5)


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("db.example:1", ("db.example", 1)),
        ("[::1]:0", ("::1", 0)),
    ],
)
def test_an_address(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize("address", ["", "x", ":9100", "host:", "host:x", "1:2:3", "host:70000", "host:²"])
def test_no_address(address: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--metrics takes HOST:PORT or PORT, e\.g\. 127\.0\.0\.1:9100.*got"
    ):
        parse_address(address)


def test_an_address_that_cannot_be_listened_at() -> None:
    metrics = Metrics(lambda: 0, "1.2")
    with served(metrics, "0") as url:
        port = url.split(":")[2].split("/")[0]
        taken = rf"--metrics {port} cannot be used: Address already in use\. Choose another port"
        with pytest.raises(ConfigError, match=taken), served(metrics, port):
            pass
    with (
        pytest.raises(ConfigError, match=r"--metrics no\.invalid:1 cannot be used: "),
        served(metrics, "no.invalid:1"),
    ):
        pass


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"needs prometheus-client.*pip install -c .* -e '\.\[metrics\]'"):
        Metrics(lambda: 0, "1.2")
