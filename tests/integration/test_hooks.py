"""Addresses that people are told at: found, kept secret, and never waited for."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from lab.errors import ConfigError, LabError
from lab.hooks import Message, hooks_of, own_sources
from tests.hook_server import hanging_server, hook_server
from tests.servers import dead_port

pytest.importorskip("apprise")

MESSAGE = Message("digits: done", "12 cells", "success")


def test_addresses_come_from_variables_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hook"
    file.write_text("# the team's\njson://127.0.0.1:1\n\n  xml://127.0.0.1:2 json://127.0.0.1:3\n")
    monkeypatch.setenv("CHAT", "json://user:hunter2@127.0.0.1:1")
    monkeypatch.setenv("LAB_NOTIFY_FILE", str(file))
    assert [str(hook) for hook in hooks_of("${CHAT}")] == ["${CHAT} (JSON)"]
    assert [str(hook) for hook in hooks_of(f"file:{file}")] == [
        f"file:{file} ({kind})" for kind in ("JSON", "XML", "JSON")
    ]
    assert own_sources() == ("$LAB_NOTIFY",)
    assert len(hooks_of("$LAB_NOTIFY")) == 3


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, r"notify: \$CHAT: the environment variable CHAT is not set. Set it to a URL"),
        (" ", r"notify: \$CHAT: it is empty. It must hold a URL"),
        ("hunter2", r"notify: \$CHAT: what it holds is no URL that apprise knows"),
        ("json://h slack://hunter2", r"notify: \$CHAT: its address 2 of 2 is no URL that apprise knows"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_not_repeated(
    value: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("CHAT", value)
    with pytest.raises(ConfigError, match=said) as raised:
        hooks_of("$CHAT")
    assert "hunter2" not in str(raised.value)


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"notify: file:.*nowhere: the file cannot be read: No such file"):
        hooks_of(f"file:{tmp_path / 'nowhere'}")
    monkeypatch.setenv("CHAT_FILE", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"notify: \$CHAT \(CHAT_FILE\): the file cannot be read: Is a directory"
    ):
        hooks_of("$CHAT")


def test_without_apprise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(
        LabError, match=r"notify: \$CHAT needs apprise, which is not .*pip install 'lab\[notify\]'"
    ):
        hooks_of("$CHAT")


def test_a_message_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    with hook_server() as (address, received):
        monkeypatch.setenv("CHAT", address)
        (hook,) = hooks_of("$CHAT")
        hook.send(MESSAGE, warnings.append)
        assert hook.close(60)
    assert received == [("success", "digits: done", "12 cells")]
    assert warnings == []


def test_a_dead_address_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT", f"json://user:hunter2@127.0.0.1:{dead_port()}/hunter2")
    (hook,) = hooks_of("$CHAT")
    warnings: list[str] = []
    for _ in range(3):
        hook.send(MESSAGE, warnings.append)
    assert hook.close(60)
    (warning,) = warnings
    assert warning.startswith(
        "notify: $CHAT (JSON) does not take messages: it cannot be reached, or it refuses them"
    )
    assert "hunter2" not in warning


def test_nobody_waits_for_an_address_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging_server() as address:
        monkeypatch.setenv("CHAT", f"{address}?rto=30")
        (hook,) = hooks_of("$CHAT")
        began = time.monotonic()
        hook.send(MESSAGE, [].append)
        assert not hook.close(0.2)
        assert time.monotonic() - began < 20  # not thirty
