"""How a worker's processes log: as text and as JSON."""

from __future__ import annotations

import json
import logging
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from lab import logs
from lab.errors import LabWarning

LOGGER = logging.getLogger("lab.test")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    logs.reset()


@pytest.fixture
def records(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """What was logged as JSON; anything else is an error."""

    def read() -> list[dict[str, Any]]:
        output, errors = capsys.readouterr()
        assert errors == ""
        return [json.loads(line) for line in output.splitlines()]

    logs.configure("json")
    return read


def test_a_record_has_time_level_logger_message_host_and_the_fields_of_its_event(records: Any) -> None:
    LOGGER.info("trial %d\nbegan", 3, extra=logs.event("began", trial=3, error=None, value=math.nan))
    (record,) = records()
    assert list(record)[:5] == ["time", "level", "logger", "message", "host"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(record.pop("time"))).total_seconds() < 60
    assert record.pop("host")
    assert record == {
        "level": "INFO",
        "logger": "lab.test",
        "message": "trial 3\nbegan",
        "event": "began",
        "trial": 3,
        "value": None,  # JSON has no NaN
    }


@pytest.mark.parametrize("category", [LabWarning, FutureWarning])
def test_warnings_are_logged(records: Any, category: type[Warning]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("it is late", category, stacklevel=1)
    (record,) = records()
    assert (record["level"], record["event"]) == ("WARNING", "warning")
    assert record["category"] == category.__name__
    place = "" if category is LabWarning else f" (FutureWarning, {__file__}:"
    assert record["message"].startswith(f"it is late{place}")


def test_what_nobody_caught_is_logged(records: Any) -> None:
    def fail() -> None:
        raise ValueError("at http://ann:hunter2@host")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    (record,) = records()
    assert (record["level"], record["event"]) == ("CRITICAL", "crashed")
    assert record["message"] == "ValueError: at http://ann:***@host"
    assert "in fail" in record["exc_info"]
    assert "hunter2@" not in record["exc_info"]


def test_other_libraries_loggers_are_taken_over(records: Any) -> None:
    logger = logging.getLogger("mlflow")
    logger.addHandler(logging.StreamHandler())
    logs.adopt()
    logger.warning("slow")
    assert [(one["logger"], one["message"]) for one in records()] == [("mlflow", "slow")]


def test_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    LOGGER.info("tiny  lr=0.01  started", extra=logs.event("trial_started"))
    LOGGER.debug("never")
    LOGGER.warning("no answer from http://ann:hunter2@host", extra=logs.event("trouble"))
    LOGGER.warning("Stopping.", extra=logs.event("stopping"))
    LOGGER.error("no")
    output, errors = capsys.readouterr()
    assert output[2:3] == output[5:6] == ":"
    assert output[8:] == "  tiny  lr=0.01  started\n"
    assert errors == "Trouble: no answer from http://ann:***@host\n\nStopping.\nError: no\n"


def test_configured_twice_logs_once_and_reset_undoes_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = warnings.showwarning
    logs.configure("text")
    logs.configure("json")
    LOGGER.info("once")
    assert capsys.readouterr().out.count("once") == 1
    assert logs.configured_format() == "json"
    logs.reset()
    LOGGER.info("never")
    assert capsys.readouterr() == ("", "")
    assert (warnings.showwarning, logs.configured_format()) == (shown, None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://lab:pa/s@s@db/lab.", "at postgresql://lab:***@db/lab."),
        ("http://ann:hunter2@host:5000/#/x and a@b", "http://ann:***@host:5000/#/x and a@b"),
        ("postgresql://db/lab?password=hunter2&x=1", "postgresql://db/lab?password=***&x=1"),
        ("http://host:5000/api and models:/net@best", "http://host:5000/api and models:/net@best"),
        ("postgresql://lab@db/lab", "postgresql://lab@db/lab"),
    ],
)
def test_passwords_are_never_logged(text: str, shown: str) -> None:
    assert logs.redacted(text) == shown


def test_a_warning_of_labs_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # as before, afterwards
    logs.one_line_warnings()
    ours, theirs = LabWarning("postgresql://me:secret@db/lab is away"), UserWarning("theirs")
    assert (
        warnings.formatwarning(ours, LabWarning, "x.py", 142)
        == "Warning: postgresql://me:***@db/lab is away\n"
    )
    assert warnings.formatwarning(theirs, UserWarning, "x.py", 1) == "x.py:1: UserWarning: theirs\n"
