"""People are told what becomes of a study, once, whoever trains it, and nothing waits for those who cannot be."""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lab.config import Grid, Notify, parse_grid
from lab.engines import Stores, notices, serve, submit, sweep
from lab.engines.inline import InlineLauncher
from lab.engines.notices import Notices
from lab.errors import ConfigError, LabWarning
from lab.hooks import Hook
from lab.study import TrialKey, find_queue
from lab.tracking import connect
from tests.hook_server import Received, hanging_server, hook_server
from tests.servers import dead_port

pytest.importorskip("apprise")

MakeGrid = Callable[..., Grid]
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for the last messages, which a loaded machine may take longer to send."""
    monkeypatch.setattr(notices, "_END_SECONDS", 60.0)


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """What `$CHAT` has received."""
    with hook_server() as (address, received):
        monkeypatch.setenv("CHAT", address.replace("://", f"://user:{SECRET}@"))
        yield received


def titles(received: Received) -> list[str]:
    return [title for _, title, _ in received]


def with_failure(grid: Grid) -> Grid:
    text = grid.text.replace("lr: [0.01, 0.02, 0.03]", "dataset: [synthetic, mnist], lr: [0.01, 0.02]")
    return parse_grid(text, "tiny.yaml")  # MNIST is not here


@pytest.mark.slow
def test_a_sweep_with_two_workers_tells_once_and_waits_for_nobody(
    chat: Received, stores: Stores, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEAD", f"json://user:{SECRET}@127.0.0.1:{dead_port()}")
    grid = with_failure(make_grid(more="notify: [$CHAT, $DEAD, $HANGS]"))
    with hanging_server() as address, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monkeypatch.setenv("HANGS", address)
        result = sweep(grid, stores, workers=2)
    assert (result.ending, result.states) == ("done", {"complete": 2, "failed": 2})
    told = [title for title in titles(chat) if "new best" not in title]  # there may be one
    assert told == ["tiny: the first cell has failed", "tiny: done"]
    (done,) = [body for _, title, body in chat if title == "tiny: done"]
    assert done.startswith("4 cells: 2 complete, 2 failed\nBest: val_accuracy ")
    assert done.endswith("\nMore: lab report tiny")
    said = [str(warning.message) for warning in caught if warning.category is LabWarning]
    assert sum(line.startswith("notify: $DEAD (JSON) does not take messages") for line in said) == 1
    assert not any(SECRET in line for line in said)
    for database in ("optuna.db", "mlflow.db"):
        with closing(sqlite3.connect(tmp_path / database)) as connection:
            assert not any(SECRET in line for line in connection.iterdump())
    sweep(grid, stores, launcher=InlineLauncher())  # nothing is left to train, nor to tell
    assert titles(chat).count("tiny: done") == 1


def test_a_link_for_everybody_and_one_message_to_each_address(
    chat: Received, stores: Stores, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    (submission,) = submit(make_grid(), stores)
    monkeypatch.setenv("SAME", os.environ["CHAT"])
    followed = {"tiny": Notify(("$CHAT", "$SAME"))}
    tracker = connect(stores.tracking_uri)
    with Notices(tracker, f"http://ann:{SECRET}@mlflow:5000", followed, pytest.fail) as told:
        claim = submission.queue.claim()
        assert claim is not None
        submission.queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
        submission.queue.note_trial(claim.trial_id, TrialKey.ERROR, "ValueError: no")
        submission.queue.fail(claim.trial_id)
        told.hear(submission.queue)
    ((kind, title, body),) = chat
    assert (kind, title) == ("failure", "tiny: the first cell has failed")
    assert body.startswith(
        "Failed: lr=0.01: ValueError: no\n3 cells: 1 failed, 2 waiting\nhttp://ann:***@mlflow:5000/#/"
    )


def test_a_look_that_takes_longer_than_addresses_may_is_waited_for(
    chat: Received, stores: Stores, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    (submission,) = submit(make_grid(), stores)
    look, close = notices.claim_news, Hook.close

    def look_slowly(*args: Any) -> Any:
        time.sleep(0.5)
        return look(*args)

    monkeypatch.setattr(notices, "_END_SECONDS", 0.1)
    monkeypatch.setattr(notices, "claim_news", look_slowly)
    monkeypatch.setattr(Hook, "close", lambda hook, seconds: close(hook, 60.0))
    followed = {"tiny": Notify(("$CHAT",))}
    with Notices(connect(stores.tracking_uri), "http://mlflow:5000", followed, pytest.fail) as told:
        claim = submission.queue.claim()
        assert claim is not None
        submission.queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
        submission.queue.fail(claim.trial_id)
        told.hear(submission.queue)
    assert titles(chat) == ["tiny: the first cell has failed"]


def test_addresses_are_checked_before_anything_is_queued(stores: Stores, make_grid: MakeGrid) -> None:
    with pytest.raises(ConfigError, match=r"notify: \$NOBODY: the environment variable NOBODY is not set"):
        sweep(make_grid(more="notify: $NOBODY"), stores, launcher=InlineLauncher())
    assert find_queue(stores.storage, "tiny") is None


def test_a_service_tells_whom_a_study_names_if_it_trusts_it_and_whom_it_is_given(
    chat: Received, stores: Stores, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles: list[str] = []

    def served(name: str, *, allow_code: bool) -> list[str]:
        submit(make_grid(name, more="notify: {to: [$CHAT, $NOBODY], events: [done]}"), stores)
        chat.clear()
        trusting = Stores(**{**vars(stores), "allow_code": allow_code})
        serve(trusting, launcher=InlineLauncher(), idle_exit=0, on_trouble=troubles.append)
        return titles(chat)

    assert served("own", allow_code=True) == ["own: done"]
    (trouble,) = troubles
    assert trouble.startswith("notify: $NOBODY: the environment variable NOBODY is not set")
    with hook_server() as (address, received):
        monkeypatch.setenv("LAB_NOTIFY", address)
        assert served("others", allow_code=False) == []
    assert "others: done" in titles(received)
    assert len(troubles) == 1
