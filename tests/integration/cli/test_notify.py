"""`lab notify`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hook_server import hook_server
from tests.servers import dead_port

pytest.importorskip("apprise")


def test_notify_says_whom_a_message_reaches(bare_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = (bare_lab.home / "tiny.yaml").read_text()
    (bare_lab.home / "told.yaml").write_text(f"{grid}\nnotify: [$CHAT, $DEAD]\n")
    monkeypatch.setenv("DEAD", f"json://user:hunter2@127.0.0.1:{dead_port()}")
    with hook_server() as (address, received):
        monkeypatch.setenv("CHAT", address)
        result = bare_lab("notify", "told.yaml")
        assert result.stdout == "ok  $CHAT (JSON)\nNO  $DEAD (JSON)\n"
        assert "1 address cannot be reached, or did not accept the message" in result.stderr
        assert result.exit_code == 1
        monkeypatch.setenv("LAB_NOTIFY", address)
        result = bare_lab("notify")
    assert (result.exit_code, result.stdout) == (0, "ok  $LAB_NOTIFY (JSON)\n")
    assert [title for _, title, _ in received] == ["lab: a test"] * 2


def test_notify_without_anybody_to_tell(bare_lab: Any) -> None:
    for arguments, also in (((), ""), (("tiny.yaml",), ", and tiny.yaml has no `notify`")):
        result = bare_lab("notify", *arguments)
        assert result.exit_code == 2
        assert f"No address to notify: LAB_NOTIFY is not set{also}" in result.stderr
