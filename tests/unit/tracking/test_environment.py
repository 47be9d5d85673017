"""What MLflow reads from the environment."""

from __future__ import annotations

import os

import pytest

from lab.tracking.environment import sent_once

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@pytest.mark.parametrize("before", ["7", None])
def test_requests_are_sent_once_in_a_block_and_as_before_after_it(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv(RETRIES, raising=False)
    else:
        monkeypatch.setenv(RETRIES, before)
    with sent_once():
        assert os.environ[RETRIES] == "0"
    assert os.environ.get(RETRIES) == before


def test_a_request_that_fails_leaves_the_setting_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RETRIES, "7")
    with pytest.raises(OSError, match="no answer"), sent_once():
        raise OSError("no answer")
    assert os.environ[RETRIES] == "7"
