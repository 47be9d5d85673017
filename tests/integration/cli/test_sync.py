"""`lab sync`, after a run whose server was unreachable."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lab.cli import single_run
from lab.identity import ProcessName, process_name
from lab.tracking.journal import OWNER, RunJournal


def test_training_does_not_need_the_server(bare_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_run, "_END_SECONDS", 0.1)
    monkeypatch.setattr("lab.tracking.journals.time.time", lambda: 2e9)  # so that all of it is old
    nowhere = ("--tracking-uri", "http://127.0.0.1:9")
    result = bare_lab("train", "--config", "config.yaml", "--epochs", "1", *nowhere)
    assert result.exit_code == 0, result.stderr
    assert "Connecting failed at http://127.0.0.1:9: " in result.stderr
    assert "Until it answers, everything logged is kept in .lab/journal" in result.stderr
    told = r"Not delivered to http://127.0.0.1:9: \d+ writes of 1 run\. .*`lab sync`.* delivers them"
    assert re.search(told, result.stderr)
    assert "run pending-" in result.stdout
    assert re.search(told, bare_lab("status", *nowhere).stdout)
    synced = bare_lab("sync", *nowhere)
    assert (synced.exit_code, synced.stdout) == (1, "")
    assert "Run `lab sync` again once it answers" in synced.stderr
    assert re.search(r"Left in .*journal: \d+ writes of 1 run\n", synced.stderr)
    other = bare_lab("sync")
    assert (other.exit_code, "Nothing is left to deliver to sqlite" in other.stdout) == (0, True)
    assert (
        "There is more to deliver to another store: lab sync --tracking-uri http://127.0.0.1:9"
        in other.stderr
    )


def test_a_killed_run_that_the_server_cannot_be_asked_about_is_still_to_be_ended(bare_lab: Any) -> None:
    nowhere = "http://127.0.0.1:9"
    journal = RunJournal.create(bare_lab.home / ".lab" / "journal" / "killed", store=nowhere, run_id="8f")
    ours = ProcessName.parse(process_name())
    assert journal is not None
    assert ours is not None
    journal.note(OWNER, str(ours._replace(created="1.00")))
    journal.close()
    for _ in range(2):
        synced = bare_lab("sync", "--tracking-uri", nowhere)
        assert (synced.exit_code, synced.stdout) == (1, "")
        assert "Run `lab sync` again once it answers" in synced.stderr
