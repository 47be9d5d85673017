"""`lab doctor` with stores in every state."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

import mlflow
import optuna
import pytest
import sqlalchemy as sa

from lab.errors import TrackingError
from lab.restore import restore_config
from lab.study import open_storage, open_study
from lab.tracking import RunStatus, connect, health
from lab.tracking.journal import RunJournal
from lab.tracking.writes import Tags
from lab.upkeep import doctor
from tests.servers import MlflowServer

Examined = Callable[..., dict[str, dict[str, str]]]
PASSWORD = "t0p-s3cret"


class Server(ThreadingHTTPServer):
    """Answers like an MLflow server, or not at all."""

    status, version, ahead = 200, mlflow.__version__, 0.0
    silence: threading.Event | None = None
    clock = staticmethod(time)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.silence is not None:
            self.server.silence.wait(60)
            return
        text = self.server.version if self.path == "/version" else "{}"
        self.send_response_only(self.server.status)
        self.send_header("Date", formatdate(self.server.clock() + self.server.ahead, usegmt=True))
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_HEAD = _answer  # noqa: N815

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    if server.silence is not None:
        server.silence.set()
    server.shutdown()
    server.server_close()


def test_before_anything_is_there(examined: Examined, tmp_path: Path) -> None:
    found = examined()
    assert {finding["verdict"] for finding in found.values()} <= {"ok", "warning"}  # this disk may be small
    assert found["study database"]["found"] == "none yet; the first sweep creates it"
    assert found["tracking store"]["found"] == "none yet; the first run creates it"
    assert list(tmp_path.iterdir()) == []


def test_stores_that_are_well(examined: Examined, home: Path) -> None:
    found = examined()
    assert found["study database"]["verdict"] == found["tracking store"]["verdict"] == "ok"
    assert found["artifacts"]["found"] == "no run yet"
    assert found["stale trials"]["verdict"] == "ok"
    assert found["undelivered journals"]["found"] == "none"
    run = connect(f"sqlite:///{home}/mlflow.db", home / "artifacts")
    opened = run.open_run(name="x", experiment=run.experiment("x"), tags={})
    opened.log_text("text", "a.txt")
    opened.end(RunStatus.FINISHED)
    assert examined()["artifacts"]["found"] == f"answers: 1 entry in the newest run, {opened.run_id}"


def test_imported_runs_need_no_artifacts(examined: Examined, lab: Any, home: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text("metrics.accuracy,params.lr\n0.5,0.1\n0.6,0.2\n")
    assert lab("import", tmp_path / "theirs.csv").exit_code == 0
    found = examined()["artifact locations"]
    assert (found["verdict"], found["found"]) == ("ok", "0 runs checked: all in this store's folders")
    tracker = connect(f"sqlite:///{home}/mlflow.db", home / "artifacts")
    run = tracker.open_run(
        name="x", experiment=tracker.experiment("x"), tags={"lab.kind": "trial", "lab.device": "cpu"}
    )
    run.end(RunStatus.FINISHED)
    lost = examined()["artifact locations"]["found"]
    assert lost.startswith("the artifact folders of 1 of the newest 1 runs do not exist")


@pytest.mark.parametrize("kind", ["trial", "lr_range", "sweep"])
def test_runs_that_have_stored_nothing_are_not_lost(examined: Examined, home: Path, kind: str) -> None:
    """A trial that was stopped while its images were read, and the run of `mlflow run . -e sweep`."""
    tracker = connect(f"sqlite:///{home}/mlflow.db", home / "artifacts")
    run = tracker.open_run(name="x", experiment=tracker.experiment("x"), tags={"lab.kind": kind})
    run.end(RunStatus.KILLED)
    assert examined()["artifact locations"]["verdict"] == "ok"
    with pytest.raises(TrackingError, match="it has not stored one yet, or it was deleted"):
        restore_config(tracker, run.run_id)


def stamp(database: Path, version: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))


def test_schemas_of_other_versions(examined: Examined, home: Path) -> None:
    stamp(home / "optuna.db", "v2.6.0.a")
    stamp(home / "mlflow.db", "90e64c465722")
    before = [(home / name).read_bytes() for name in ("optuna.db", "mlflow.db")]
    found = examined()
    studies, tracking = found["study database"], found["tracking store"]
    assert studies["verdict"] == tracking["verdict"] == "failed"
    assert "version v2.6.0.a" in studies["found"]
    assert studies["mend"] == f"optuna storage upgrade --storage 'sqlite:///{home}/optuna.db'"
    assert tracking["mend"] == f"mlflow db upgrade sqlite:///{home}/mlflow.db"
    assert before == [(home / name).read_bytes() for name in ("optuna.db", "mlflow.db")]

    for name in ("optuna.db", "mlflow.db"):
        stamp(home / name, "from the future")
    found = examined()
    assert found["study database"]["mend"] == "pip install -U optuna"
    assert found["tracking store"]["mend"] == "pip install -U mlflow"


def test_databases_of_something_else(examined: Examined, home: Path) -> None:
    for name in ("optuna.db", "mlflow.db"):
        (home / name).unlink()
        with closing(sqlite3.connect(home / name)) as connection, connection:
            connection.execute("CREATE TABLE recipes (name TEXT)")
    found = examined()
    assert "none of them is Optuna's" in found["study database"]["found"]
    assert "none of them is MLflow's" in found["tracking store"]["found"]
    for name in ("optuna.db", "mlflow.db"):
        (home / name).write_bytes(b"this is no database " * 500)
    found = examined()
    for check in ("study database", "tracking store"):
        assert found[check]["verdict"] == "failed"
        assert "file is not a database" in found[check]["found"]


@pytest.mark.parametrize("form", ["table", "json"])
def test_no_password_is_ever_shown(lab: Any, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "an0ther-s3cret")
    addresses = [
        (f"http://me:{PASSWORD}@127.0.0.1:9", f"postgresql://me:{PASSWORD}@127.0.0.1:9/lab"),
        (f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:9/mlflow", f"nothing://me:{PASSWORD}@h/lab"),
        (f"http://me:{PASSWORD}@:no port/", f"postgresql://me:{PASSWORD}@127.0.0.1:port/lab"),
        (f"http://me:a@b:{PASSWORD}@h/", "sqlite:///optuna.db"),
    ]
    for (tracking, storage), code in zip(addresses, (1, 1, 2, 2), strict=True):
        result = lab("doctor", "--format", form, "--tracking-uri", tracking, "--storage", storage)
        assert result.exit_code == code
        assert "s3cret" not in result.output
        assert "Traceback" not in result.output


def test_a_server_that_wants_a_password(examined: Examined, stub: Server) -> None:
    stub.status = 401
    found = examined("--tracking-uri", stub.url)["tracking store"]
    assert found["verdict"] == "failed"
    assert "not signed in, or wrong password" in found["found"]
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in found["mend"]
    for status, mend in ((403, "--allowed-hosts"), (500, "server's log"), (404, "Name the MLflow server")):
        stub.status = status
        assert mend in examined("--tracking-uri", stub.url)["tracking store"]["mend"]


@pytest.mark.parametrize(("ahead", "way"), [(-120, "120 s ahead of"), (120, "120 s behind")])
def test_a_server_of_another_version_and_time(
    examined: Examined, stub: Server, ahead: float, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the clock stands still: the header has whole seconds, and the next one may begin within the request
    monkeypatch.setattr(stub, "clock", lambda: 1_800_000_000.5)
    monkeypatch.setattr(health, "time", SimpleNamespace(time=stub.clock))
    stub.version, stub.ahead = "2.0.1", ahead
    found = examined("--tracking-uri", stub.url)
    assert found["MLflow server's version"]["verdict"] == "warning"
    assert found["MLflow server's version"]["mend"].startswith("pip install mlflow==2.0.1 ")
    clock = found["clock, against the MLflow server"]
    assert (clock["verdict"], way in clock["found"]) == ("warning", True), clock


def test_a_server_that_hangs_does_not_hold_up_the_rest(
    examined: Examined, stub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_STORE_SECONDS", 1.0)
    stub.silence = threading.Event()
    found = examined("--tracking-uri", stub.url)
    assert found["tracking store"]["found"] == "no answer within 1 s"
    assert "GPU" in found


def test_what_is_not_delivered(examined: Examined, home: Path) -> None:
    store = f"sqlite:///{home}/mlflow.db"
    for key, where in (("here", store), ("there", "http://elsewhere:5000")):
        journal = RunJournal.create(home / "journal" / key, store=where, name="trial")
        assert journal is not None
        journal.add(Tags({"a": "b"}))
        journal._db.execute("UPDATE operations SET logged = 0")
        journal.close()
    result = examined()
    assert result["undelivered journals"]["verdict"] == "warning"
    assert result["undelivered journals"]["mend"] == "lab sync --tracking-uri http://elsewhere:5000"
    with closing(sqlite3.connect(home / "journal" / "here" / "journal.db")) as database, database:
        database.execute("UPDATE operations SET state = 2, reason = 'no'")
    (home / "journal" / "there" / "journal.db").unlink()
    refused = examined()["undelivered journals"]
    assert (refused["verdict"], refused["mend"]) == ("failed", "lab sync")
    assert "1 of them refused" in refused["found"]


def test_trials_without_a_living_worker(examined: Examined, home: Path) -> None:
    url = f"sqlite:///{home}/optuna.db"
    open_study(open_storage(url), "tiny", ["maximize"])
    study = optuna.load_study(study_name="tiny", storage=url)
    living, dead, silent = study.ask(), study.ask(), study.ask()
    for trial, worker in ((living, "elsewhere:1:0.00"), (silent, "elsewhere:2:0.00")):
        trial.set_user_attr("lab:cell", "slot-0")
        trial.set_user_attr("lab:worker", worker)
    dead.set_user_attr("lab:cell", "slot-1")
    dead.set_user_attr("lab:worker", f"{socket.gethostname()}:4194305:0.00")
    dead.set_user_attr("lab:label", "lr=0.1")
    other = optuna.create_study(study_name="another program's", storage=url).ask()
    other.set_user_attr("worker", "me")
    study.ask().set_user_attr("worker", f"{socket.gethostname()}:4194305:0.00")  # of another program, too
    with closing(sqlite3.connect(home / "optuna.db")) as database, database:
        database.execute(
            "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?, '2020-01-01 00:00:00')",
            (silent._trial_id,),
        )
    found = examined()["stale trials"]
    assert found["found"] == "tiny: 2 trials are running without a living worker (lr=0.1, 2)"
    assert (found["verdict"], found["mend"]) == ("warning", "lab resume tiny (or start any worker)")


def test_the_table_says_it_all(lab: Any, home: Path) -> None:
    stamp(home / "optuna.db", "v2.6.0.a")
    result = lab("doctor")
    assert result.exit_code == 1
    for text in ("what to do", "versions", "failed", "optuna storage upgrade", "GPU", "disk, journal"):
        assert text in result.stdout


@pytest.mark.slow
def test_a_real_server(examined: Examined, server: MlflowServer) -> None:
    server.start()
    found = examined("--tracking-uri", server.url)
    checks = ("tracking store", "MLflow server's version", "clock, against the MLflow server", "artifacts")
    assert [found[check]["verdict"] for check in checks] == ["ok"] * 4
    assert found["artifacts"]["found"] == "no run yet"
    tracker = connect(server.url)
    run = tracker.open_run(name="x", experiment=tracker.experiment("x"), tags={})
    run.log_text("text", "a.txt")
    assert run.run_id in examined("--tracking-uri", server.url)["artifacts"]["found"]
    run.end(RunStatus.FINISHED)


@pytest.mark.postgres
def test_postgres(examined: Examined, postgres: Any) -> None:
    url = postgres.database()
    assert "empty" in examined("--storage", url)["study database"]["found"]
    storage = open_storage(url)
    found = examined("--storage", url)
    checks = ("study database", "clock, against the study database", "stale trials")
    assert [found[check]["verdict"] for check in checks] == ["ok"] * 3

    role = f"dashboard_{url.rpartition('_')[2]}"
    reader = url.replace("//lab@", f"//{role}:{PASSWORD}@")
    missing = examined("--storage", reader)["study database"]
    assert missing["verdict"] == "failed"
    assert "user and password" in missing["mend"]
    with storage.engine.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN"))
    denied = examined("--storage", reader)["study database"]
    assert (denied["verdict"], "Grant the role" in denied["mend"]) == ("failed", True)
    with storage.engine.begin() as connection:
        connection.execute(sa.text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
    found = examined("--storage", reader)
    assert "may only read" in found["study database"]["found"]
    assert found["stale trials"]["verdict"] == "ok"
    with storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v2.6.0.a'"))
    old = examined("--storage", url.replace("//lab@", f"//lab:{PASSWORD}@"))["study database"]
    assert old["mend"].startswith("optuna storage upgrade --storage 'postgresql+psycopg://lab@127.0.0.1")
    assert PASSWORD not in json.dumps(old)
    storage.engine.dispose()
