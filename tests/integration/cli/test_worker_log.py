"""What `lab worker` prints, and what it serves to Prometheus."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
import requests

from lab.errors import ConfigError
from tests.servers import dead_port, free_port
from tests.workers import forked, kill

Until = Callable[..., None]
PATIENCE = 120  # seconds; a loaded machine is slow
SECRET = "hunter2"


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_json_of_a_whole_study(lab: Any) -> None:
    assert lab("submit", "tiny.yaml").exit_code == 0
    result = lab(
        *("worker", "--workers", "1", "--idle-exit", "0.5"),
        env={"LAB_LOG_FORMAT": "json", "LAB_METRICS": "0"},
    )
    assert (result.exit_code, result.stderr) == (0, "")
    found = records(result.stdout)
    assert [one["event"] for one in found] == ["metrics", "waiting", *["trial_started", "trial_ended"] * 3]
    assert {"study": "tiny", "trial": 0, "label": "lr=0.01 relu"}.items() <= found[2].items()
    assert {"outcome": "completed", "monitor": "val_accuracy"}.items() <= found[3].items()
    assert 0 <= found[3]["value"] <= 1
    assert {"level", "logger", "host", "message", "time"} <= found[3].keys()


@pytest.mark.slow
def test_every_line_of_every_process_is_json(lab: Any, until: Until) -> None:
    lab("submit", "tiny.yaml", "--set", "epochs=2000")
    port = free_port()
    away = f"http://ann:{SECRET}@127.0.0.1:{dead_port()}"
    options = ("--workers", "1", "--log-format", "json", "--metrics", port, "--tracking-uri", away)
    process = lab.start("worker", *options, env={"PYTHONWARNINGS": "always"})

    def value(name: str) -> float:
        try:
            text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE).text
        except requests.ConnectionError:
            return -1
        found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else -1

    until(lambda: value("lab_epochs_total") >= 2, "two epochs")
    assert value("lab_trials_running") == 1
    assert value("lab_undelivered_writes") > 0
    for worker in forked(by=process.pid):
        kill(worker)
    until(lambda: value("lab_trials_total") >= 1, "the loss of its trial")
    until(lambda: value("lab_trials_running") == 1, "another worker")
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert SECRET not in output + errors
    assert errors == ""
    found = records(output)
    events = [one.get("event") for one in found]
    assert {"metrics", "waiting", "trouble", "trial_started", "trial_lost", "stopping"} <= set(events)
    lost = next(one for one in found if one.get("event") == "trial_lost")
    assert lost["error"] == "its process was ended by SIGKILL"
    assert events[-1] == "undelivered"
    assert next(one for one in found if one.get("event") == "trial_ended")["outcome"] == "killed"


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_last_error(bare_lab: Any, form: str) -> None:
    storage = f"postgresql://ann:{SECRET}@127.0.0.1:{dead_port()}/lab"
    result = bare_lab("worker", "--storage", storage, "--log-format", form)
    assert result.exit_code == 1
    assert SECRET not in result.output
    if form == "text":
        assert result.stderr.startswith("Error: --storage postgresql://ann:***@127.0.0.1")
        return
    assert result.stderr == ""
    waiting, error = records(result.stdout)
    assert (waiting["event"], error["event"], error["level"]) == ("waiting", "error", "ERROR")
    assert "cannot be opened: connection failed" in error["message"]
    assert "exc_info" not in error


def test_metrics_where_another_listens(bare_lab: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = bare_lab("worker", "--metrics", port)
    assert result.exit_code == ConfigError.exit_code
    assert f"--metrics {port} cannot be used: Address already in use" in result.stderr
    assert "waiting" not in result.stdout
