"""An MLflow server that wants a user name and a password: one clear error, and nothing begun or lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.errors import TrackingError
from lab.study import TrialQueue, open_storage
from lab.tracking import RunStatus, connect, deliver, left
from tests.servers import AuthServer

pytestmark = pytest.mark.slow

NAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
ADMIN = dict(zip((NAME, PASSWORD), AuthServer.ADMIN, strict=True))
READER = {NAME: "reader", PASSWORD: "readers-very-own"}
NOBODY = {NAME: None, PASSWORD: None}
WRONG = {**ADMIN, PASSWORD: "mistyped"}
TRAIN = ("train", "--config", "config.yaml", "--epochs", "1", "--experiment", "tiny")


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Iterator[AuthServer]:
    server = AuthServer(tmp_path_factory.mktemp("auth"), fresh_databases / "mlflow.db")
    server.start()
    server.create_user(READER[NAME], READER[PASSWORD])
    yield server
    server.stop()


@pytest.fixture
def submitted(lab: Any, auth: AuthServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`lab` with a study that the administrator has submitted, and so alone may write to."""
    monkeypatch.setenv("HOME", str(lab.home))  # no credentials of whoever runs the tests
    monkeypatch.setenv("MLFLOW_TRACKING_URI", auth.url)
    result = lab("submit", "tiny.yaml", env=ADMIN)
    assert result.exit_code == 0, result.output
    return lab


def states(lab: Any) -> set[str]:
    queue = TrialQueue(open_storage(f"sqlite:///{lab.home}/.lab/optuna.db"), "tiny")
    return {trial.state.name for trial in queue.trials()}


def nothing_began(lab: Any, auth: AuthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert states(lab) == {"WAITING"}
    for name, value in ADMIN.items():
        monkeypatch.setenv(name, value)
    tracker = connect(auth.url)
    assert tracker.find_runs(tracker.experiment("tiny"), {"lab.kind": "trial"}) == []
    assert not left(lab.home / ".lab" / "journal", auth.url)


@pytest.mark.parametrize("account", [NOBODY, WRONG], ids=["nobody", "wrong password"])
@pytest.mark.parametrize(
    "command",
    [TRAIN, ("sweep", "tiny.yaml"), ("submit", "tiny.yaml"), ("worker",), ("best", "tiny")],
    ids=lambda command: command[0],
)
def test_who_may_not_enter(
    submitted: Any, auth: AuthServer, command: Any, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = submitted(*command, env=account)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert (
        f"failed at {auth.url}: the user name or password is wrong or missing (401). Set"
        " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write ~/.mlflow/credentials.\n"
    ) in result.stderr
    assert result.stderr.count("\n") == 1
    assert "mistyped" not in result.output
    nothing_began(submitted, auth, monkeypatch)


@pytest.mark.parametrize(
    "command", [TRAIN, ("sweep", "tiny.yaml"), ("submit", "tiny.yaml")], ids=lambda command: command[0]
)
def test_who_may_only_read(
    submitted: Any, auth: AuthServer, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = submitted(*command, env=READER)
    assert result.exit_code == 1
    assert "this account lacks permission (403)." in result.stderr
    assert "for the permission EDIT, or set another account in MLFLOW_TRACKING_USERNAME" in result.stderr
    assert result.stderr.count("\n") == 1
    nothing_began(submitted, auth, monkeypatch)


def test_a_worker_that_may_only_read_puts_back_what_it_claims(
    submitted: Any, auth: AuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = submitted.start("worker", "--workers", "1", "--idle-exit", "1", env=READER)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1  # all of its work broke down
    assert "Trouble: tiny: Creating the run" in errors
    assert "this account lacks permission (403)." in errors
    assert errors.count("  lr=0.01 relu  returned to the queue: its worker could not continue\n") == 1
    assert "failed" not in output
    nothing_began(submitted, auth, monkeypatch)


def test_status_needs_no_server_and_a_reader_may_look(submitted: Any) -> None:
    assert submitted("status", "tiny", env=NOBODY).stdout.startswith("tiny: 3 waiting")
    assert submitted("best", "tiny", env=READER).stdout == "No trial of tiny has started yet\n"


def test_credentials_from_mlflows_file(submitted: Any, auth: AuthServer) -> None:
    file = submitted.home / ".mlflow" / "credentials"
    file.parent.mkdir()
    name, password = auth.ADMIN
    file.write_text(f"[mlflow]\nmlflow_tracking_username = {name}\nmlflow_tracking_password = {password}\n")
    assert submitted(*TRAIN, env=NOBODY).exit_code == 0


def test_what_is_refused_after_a_change_of_the_password_is_kept_and_delivered_later(
    submitted: Any, auth: AuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.create_user("trainer", "the-old-password")
    for name, value in {NAME: "trainer", PASSWORD: "the-old-password"}.items():
        monkeypatch.setenv(name, value)
    journal = submitted.home / "journal"
    tracker = connect(auth.url, journal_dir=journal)
    run = tracker.open_run(name="long", experiment=tracker.experiment("changing"), tags={})
    run.log_metrics({"val_loss": 1.0}, step=1)
    assert not tracker.flush(60)
    auth.change_password("trainer", "the-new-password")
    run.log_metrics({"val_loss": 0.5}, step=2)
    assert tracker.flush(60).refused == 1
    with pytest.raises(TrackingError, match=r"the user name or password is wrong"):
        tracker.tags(run.run_id)
    refused = submitted("sync", env={PASSWORD: "mistyped"})
    assert refused.exit_code == 0  # of .lab/journal, in which nothing is
    result = deliver(connect(auth.url), journal, retry_refused=True)
    assert (result.writes, result.left.refused) == (0, 1)
    assert "wrong or missing (401)" in result.refused[0].reason
    monkeypatch.setenv(PASSWORD, "the-new-password")
    assert deliver(connect(auth.url), journal, retry_refused=True).writes == 1
    assert tracker.history(run.run_id, "val_loss") == {1: 1.0, 2: 0.5}
    connect(auth.url).attach(run.run_id).end(RunStatus.FINISHED)
