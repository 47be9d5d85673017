"""Errors of a study database: what each of them means, which are worth waiting for, and that nothing leaks."""

from __future__ import annotations

import inspect
import re
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage

from lab.errors import LabWarning, StudyError
from lab.study import TrialQueue, find_queue, known_studies, open_storage, overview, study_runs
from lab.study.faults import DatabaseError, MalformedError, Retry, is_denied, reason, translated
from lab.study.storage import PatientStorage


class SaidError(Exception):
    """What PostgreSQL's driver raises."""

    def __init__(self, text: str, sqlstate: str | None = None) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


def operational(cause: Exception, *, broke: bool = False) -> sa.exc.OperationalError:
    return sa.exc.OperationalError("SELECT 1", {}, cause, connection_invalidated=broke)


def wrapped(cause: Exception) -> StorageInternalError:
    """As Optuna does."""
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


REFUSED = operational(SaidError("connection refused\nIs the server running?"))
UNREACHABLE: dict[str, Exception] = {
    "no connection": REFUSED,
    "a connection that broke": operational(SaidError("x", "58000"), broke=True),
    "a server that stops": operational(
        SaidError("terminating connection due to administrator command", "57P01")
    ),
    "a locked file": operational(sqlite3.OperationalError("database is locked")),
    "as Optuna wraps it": wrapped(REFUSED),
}
BROKEN: dict[str, Exception] = {
    "a wrong password": operational(SaidError('FATAL: password authentication failed for user "x"')),
    "a role that may not": operational(SaidError("permission denied for table trials", "42501")),
    "a full disk": operational(sqlite3.OperationalError("database or disk is full")),
    "no such table": sa.exc.ProgrammingError("SELECT 1", {}, SaidError("relation does not exist", "42P01")),
    "an unknown dialect": sa.exc.NoSuchModuleError("Can't load plugin: sqlalchemy.dialects:nosuchdb"),
    "as Optuna wraps it": wrapped(operational(sqlite3.OperationalError("database disk image is malformed"))),
    "without a word": sa.exc.InvalidRequestError(),
}


def raising(*errors: Exception) -> Callable[[], str]:
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


@pytest.mark.parametrize("error", UNREACHABLE.values(), ids=UNREACHABLE.keys())
def test_what_is_unreachable_is_waited_for_and_told_once(error: Exception) -> None:
    with pytest.warns(LabWarning, match=r"--storage db cannot be reached: .*[^.]\. Waiting for it") as told:
        assert Retry("db", lambda: False)(raising(error, error)) == "done"
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore::lab.errors.LabWarning")
@pytest.mark.parametrize("error", UNREACHABLE.values(), ids=UNREACHABLE.keys())
def test_a_stop_ends_the_waiting(error: Exception) -> None:
    with pytest.raises(DatabaseError, match=r"--storage db cannot be reached: .*start again when it is back"):
        Retry("db", lambda: True)(raising(error))


@pytest.mark.parametrize("error", BROKEN.values(), ids=BROKEN.keys())
def test_what_waiting_does_not_mend_is_told_at_once(error: Exception) -> None:
    tries: list[int] = []

    def call() -> None:
        tries.append(1)
        raise error

    with pytest.raises(DatabaseError, match=r"--storage db cannot be used: .+") as caught:
        Retry("db", lambda: False)(call)
    assert len(tries) == 1
    assert "\n" not in str(caught.value)
    with pytest.raises(DatabaseError, match=r"--storage db cannot be opened: .+"), translated("db", "opened"):
        raise error


def test_a_wrong_password_says_where_the_right_one_goes() -> None:
    error = BROKEN["a wrong password"]
    assert is_denied(error)
    with pytest.raises(DatabaseError, match="PGPASSFILE"), translated("db"):
        raise error


def test_a_missing_driver_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    said = r"^--storage postgresql://h/d cannot be opened: .*psycopg.*: pip install 'lab\[postgres\]'$"
    with pytest.raises(StudyError, match=said):
        open_storage("postgresql://h/d")


def test_what_is_not_the_databases_fault_passes_through() -> None:
    for error in (UpdateFinishedTrialError("x"), KeyError("x"), StudyError("x"), OSError("x")):
        with pytest.raises(type(error), match=re.escape(str(error))) as caught:
            Retry("db", lambda: False)(raising(error))
        assert caught.value is error
    with (
        pytest.raises(DatabaseError, match="cannot be opened: x"),
        translated("db", "opened", also=(OSError,)),
    ):
        raise OSError("x")


def test_a_call_within_a_call_is_done_again_as_a_whole() -> None:
    retry, tries = Retry("db", lambda: False), []
    inner = raising(REFUSED)

    def outer() -> str:
        tries.append(1)
        return retry(inner)

    with pytest.warns(LabWarning):
        assert retry(outer) == "done"
    assert len(tries) == 2


def test_the_first_line_of_whatever_was_wrong() -> None:
    malformed = MalformedError("db", "an attribute is not JSON (x)")
    assert reason(malformed) == "an attribute is not JSON (x)"
    assert reason(StudyError("one\ntwo")) == "one"
    assert reason(ValueError("one\ntwo")) == "ValueError: one"
    assert reason(ValueError()) == "ValueError: "


NO_QUERY = {
    "get_all_versions",
    "get_head_version",
    "get_heartbeat_interval",
    "get_heartbeat_stale_trial_callback",
    "remove_session",
}


def test_every_call_of_optunas_storage_is_patient() -> None:
    calls = {
        name for name, _ in inspect.getmembers(RDBStorage, inspect.isfunction) if name in vars(RDBStorage)
    }
    public = {name for name in calls if not name.startswith("_")}
    assert public - NO_QUERY <= vars(PatientStorage).keys()


@pytest.fixture
def spoilt(url: str, make_queue: Callable[[int], TrialQueue], tmp_path: Path) -> str:
    """A database that was damaged after it was opened."""
    make_queue(1).storage.engine.dispose()
    with sqlite3.connect(tmp_path / "optuna.db") as connection:
        connection.execute("ALTER TABLE study_user_attributes RENAME COLUMN value_json TO other")
    connection.close()
    return url


def test_no_error_of_the_database_leaks(spoilt: str) -> None:
    storage = open_storage(spoilt)
    queue = TrialQueue(storage, "s")
    for ask in (
        lambda: known_studies(spoilt),
        lambda: find_queue(spoilt, "s"),
        lambda: overview(spoilt),
        lambda: study_runs(spoilt),
        queue.record,
        queue.is_cancelled,
        queue.claim,
        lambda: queue.note("monitor", "x"),
        lambda: storage.get_all_studies(),
    ):
        with pytest.raises(DatabaseError, match=r"--storage sqlite:///.* cannot be used: no such column"):
            ask()


def test_an_attribute_that_is_not_json_is_named(make_queue: Callable[[int], TrialQueue]) -> None:
    queue = make_queue(1)
    with queue.storage.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE study_user_attributes SET value_json = '{' WHERE key = 'lab:monitor'")
        )
    with pytest.raises(MalformedError, match="cannot be used: an attribute is not JSON"):
        queue.record()
    assert not isinstance(MalformedError("db", "x"), DatabaseError)  # other studies can be worked on
