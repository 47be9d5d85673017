"""What is checked on another machine before a worker claims a trial there."""

from __future__ import annotations

import importlib
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lab.engines import Stores
from lab.engines.node import Origin, checked, work_on_node
from lab.errors import LabError, LabWarning
from lab.server_file import ServerFile
from lab.study import Event, WorkerFailed, WorkerSettings

NOBODY = "postgresql://lab@127.0.0.1:1/lab"  # nothing listens there


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return Stores(storage=NOBODY, tracking_uri="http://127.0.0.1:1").for_worker("s")


def refused(origin: Origin, settings: WorkerSettings) -> str:
    with pytest.raises(LabError, match=r"^Node ") as error:
        checked(origin, settings, seconds=0.1)
    return str(error.value)


def test_it_goes_along_as_plain_values_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.json"
    ServerFile("http://h:5000", "postgresql://lab@h/lab", "lab", "secret").write(file)
    for name in ("PGPASSWORD", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "secret")  # and so restored after the test
    pickled = pickle.dumps(Origin.here(file))
    assert b"secret" not in pickled
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "another")
    monkeypatch.chdir("/")
    pickle.loads(pickled).enter()
    assert Path.cwd() == tmp_path
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "lab"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"lab": "0.0.1"},
            "has lab .*, but login1, where this was started, has 0.0.1; use the same environment",
        ),
        ({"python": "2.7"}, "has Python 3.*, but login1, where this was started, has 2.7; use the same"),
    ],
)
def test_another_version_is_refused_before_anything_is_claimed(
    settings: WorkerSettings, other: dict[str, str], message: str
) -> None:
    origin = replace(Origin.here(), host="login1", **other)
    events: list[Event] = []
    work_on_node(origin, settings, events.append, lambda: False)
    (failed,) = events
    assert isinstance(failed, WorkerFailed)
    with pytest.raises(LabError, match=message):
        raise LabError(failed.error)


def test_another_torch_is_only_warned_about() -> None:
    with pytest.warns(
        LabWarning, match="has torch .*, but .* has 1.0. A trial is continued bit for bit only"
    ):
        replace(Origin.here(), torch="1.0").enter()


class Raises:
    """What a name stands for whose module is not there."""

    def __reduce__(self) -> tuple[object, ...]:
        return importlib.import_module, ("no_such_module",)


def test_a_name_whose_module_is_not_there() -> None:
    origin = replace(Origin.here(), names=pickle.dumps([Raises()]))
    with pytest.raises(
        LabError, match="cannot load a name that your program has registered: ModuleNotFoundError"
    ):
        origin.enter()


def test_a_folder_that_cannot_be_made_there(settings: WorkerSettings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refused(Origin.here(), replace(settings, checkpoint_dir=tmp_path / "file" / "checkpoints"))
    assert f"cannot write to {tmp_path}/file/checkpoints: Not a directory. Start lab in a folder that" in said


def test_sqlite_is_used_on_its_own_machine_only(settings: WorkerSettings, tmp_path: Path) -> None:
    here = replace(settings, storage=f"sqlite:///{tmp_path}/optuna.db")
    (tmp_path / "optuna.db").touch()
    checked(Origin.here(), here)
    said = refused(replace(Origin.here(), host="login1"), here)
    assert "SQLite serves one machine, and the study is on login1. Run `lab serve" in said


def test_a_server_that_does_not_answer(settings: WorkerSettings) -> None:
    said = refused(Origin.here(), settings)
    assert "no answer within 0 s: --storage postgresql://lab@127.0.0.1:1/lab cannot be used: " in said
    assert "Connection refused" in said
    assert "start it with `lab serve --host ...`" in said


def test_a_server_file_that_the_node_cannot_see(
    settings: WorkerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    said = refused(replace(Origin.here(), server_file=str(tmp_path / "gone.json")), settings)
    assert f"cannot see {tmp_path}/gone.json, which says how to reach the stores" in said


def test_asked_to_stop_it_does_not_wait(settings: WorkerSettings) -> None:
    began = time.monotonic()
    with pytest.raises(LabError, match="no answer"):
        checked(Origin.here(), settings, lambda: True)
    assert time.monotonic() - began < 30
