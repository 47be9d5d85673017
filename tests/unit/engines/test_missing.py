from __future__ import annotations

import pytest

from lab import tracking
from lab.engines.missing import MissingRuns
from tests.servers import dead_port


def test_nothing_is_missing_from_a_store_that_answers() -> None:
    missing = MissingRuns("memory")
    assert not missing(["a", "b"])
    assert missing.trouble == ""


def test_a_store_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{dead_port()}"
    missing = MissingRuns(address)
    assert not missing(["a"])
    assert address in missing.trouble
    monkeypatch.setattr(tracking, "missing_runs", lambda *_: pytest.fail("asked again"))
    assert not missing(["b"])
