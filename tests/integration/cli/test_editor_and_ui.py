"""`lab ui` (what it shows, a browser test looks at), `lab schema` and `lab completion`."""

from __future__ import annotations

import json
import signal
import socket
from typing import Any

import pytest
import requests

from lab.config import grid_schema


def test_without_any_run_there_is_nothing_to_show(bare_lab: Any) -> None:
    result = bare_lab("ui", "--no-open")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Nothing has been tracked in sqlite:///" in result.stderr
    assert "`lab train` and `lab sweep GRID` do that" in result.stderr
    assert not (bare_lab.home / ".lab").exists()


def test_a_server_is_only_named(bare_lab: Any) -> None:
    result = bare_lab("ui", "--no-open", "--tracking-uri", "http://me:secret@127.0.0.1:9")
    assert result.exit_code == 0
    assert result.stdout.startswith("http://me:***@127.0.0.1:9/#/experiments?")


def test_a_port_that_is_taken(swept: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = swept("ui", "--no-open", "--port", taken.getsockname()[1])
    assert result.exit_code == 1
    assert "another program uses it; name another one, or leave --port out" in result.stderr


def test_an_unknown_study(swept: Any) -> None:
    result = swept("ui", "--no-open", "tinny")
    assert result.exit_code == 1
    assert "There is no study 'tinny'. Did you mean 'tiny'?" in result.stderr


@pytest.mark.slow
def test_ctrl_c_ends_it(swept: Any) -> None:
    process = swept.start("ui", "tiny", "--no-open", env={"PYTHONUNBUFFERED": "1"})
    page = process.stdout.readline().strip()
    assert "/runs?workflowType=machine_learning" in page
    address = page.split("/#/")[0]
    assert requests.get(f"{address}/health", timeout=120).ok
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0
    with pytest.raises(requests.ConnectionError, match="refused"):
        requests.get(f"{address}/health", timeout=30)


def test_the_schema_is_that_of_grid_files(bare_lab: Any) -> None:
    assert json.loads(bare_lab("schema").stdout) == grid_schema()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str, bare_lab: Any) -> None:
    script = bare_lab("completion", shell).stdout
    assert f"_LAB_COMPLETE={shell}_complete" in script


def test_names_of_studies_are_completed(swept: Any) -> None:
    assert _completed(swept, "lab best ti") == ["plain,tiny"]
    assert _completed(swept, "lab best no") == []


def _completed(lab: Any, line: str) -> list[str]:
    asked = {"_LAB_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    process = lab.start(env=asked)
    return process.communicate(timeout=120)[0].split()
