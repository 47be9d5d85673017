"""A journal that commit e50dcab wrote is delivered, and this version still writes the same."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from lab.tracking import JournaledTracker, MemoryTracker, RunStatus, UnavailableError, deliver
from lab.tracking.tags import Tag
from lab.tracking.writes import WRITES

KEY = "d3bcd01295ea483d883526b6409e373f"
ROWS = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "facts" VALUES('store','memory');
INSERT INTO "facts" VALUES('name','trial');
CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    path TEXT,
    file TEXT,
    logged INTEGER NOT NULL DEFAULT (strftime('%s', 'now')),
    state INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT ''
);
INSERT INTO "operations" VALUES(1,'open','{{"name": "trial", "experiment": "pending-experiment:x", "tags": {{"lab.kind": "trial", "lab.attempt": "01795852742137290528-ac93cf54", "lab.journal": "{KEY}"}}, "parent_run_id": "pending-parent", "run_id": null, "timestamp": 1000}}',NULL,NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(2,'params','{{"params": {{"lr": "0.1"}}}}',NULL,NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(3,'params','{{"params": {{"lr": "0.2", "augment": ""}}}}',NULL,NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(4,'metrics','{{"points": [["params", 5.0, 0, 1001]]}}',NULL,NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(5,'metrics','{{"points": [["loss", 0.5, 1, 1002], ["nan", NaN, 1, 1002], ["loss", Infinity, 2, 1002]]}}',NULL,NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(6,'tags','{{"tags": {{"a": "1", "gone": "gr\\u00f6\\u00dfe"}}}}',NULL,NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(7,'untag','{{"names": ["gone"]}}',NULL,NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(8,'file','{{"path": "deep/config.yaml", "table": false}}','deep/config.yaml','files/3a/config.yaml',1795852742,0,'');
INSERT INTO "operations" VALUES(9,'file','{{"path": "table.json", "table": true}}','table.json','files/49/table.json',1795852742,0,'');
INSERT INTO "operations" VALUES(10,'file','{{"path": "checkpoints/last.pt", "table": false}}','checkpoints/last.pt','files/42/last.pt',1795852742,0,'');
INSERT INTO "operations" VALUES(11,'delete','{{"path": "checkpoints/spare.pt"}}','checkpoints/spare.pt',NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(12,'dataset','{{"name": "d", "digest": "1", "source": "s", "context": "training", "shape": [1, 8, 8], "classes": ["a", "b"], "images": {{"train": 1}}}}',NULL,NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(13,'model','{{}}','model/','files/fd/model',1795852742,0,'');
INSERT INTO "operations" VALUES(14,'origin','{{"run_id": "pending-origin"}}',NULL,NULL,1795852742,0,'');
INSERT INTO "operations" VALUES(15,'end','{{"status": "FINISHED", "timestamp": 2000}}',NULL,NULL,1795852742,0,'');
"""  # noqa: E501
TABLE = b'{"columns":["rank"],"data":[[1]]}'
FILES = {
    "files/3a/config.yaml": b"text",
    "files/49/table.json": TABLE,
    "files/42/last.pt": b"weights",
    "files/fd/model/model.pt2": b"graph",
}


class Away(MemoryTracker):
    """A store that nobody reaches."""

    def experiment(self, name: str) -> str:
        raise UnavailableError("no answer")

    def find_runs(self, *args: object) -> list[str]:
        raise UnavailableError("no answer")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the old journal."""
    place = tmp_path / "journal" / KEY
    for file, content in FILES.items():
        (place / file).parent.mkdir(parents=True)
        (place / file).write_bytes(content)
    (place / "lock").touch()
    with closing(sqlite3.connect(place / "journal.db")) as db:
        db.executescript(ROWS)
    return place.parent


def rows(folder: Path) -> list[tuple[object, ...]]:
    """Return what a journal holds, without what is another in every run: ids, times and names of folders."""
    (file,) = folder.glob("*/journal.db")
    with closing(sqlite3.connect(file)) as db:
        found = db.execute("SELECT kind, payload, path, file FROM operations ORDER BY id").fetchall()
    return [(kind, _payload(payload), path, name and Path(name).name) for kind, payload, path, name in found]


def _payload(text: str) -> str:
    payload = json.loads(text)
    if "tags" in payload:
        payload["tags"] = {k: v for k, v in payload["tags"].items() if k not in (Tag.ATTEMPT, Tag.JOURNAL)}
    return json.dumps(payload, sort_keys=True)


def test_it_has_every_kind(folder: Path) -> None:
    assert {row[0] for row in rows(folder)} == WRITES.keys()


def test_it_is_delivered(folder: Path) -> None:
    store = MemoryTracker()
    result = deliver(store, folder)
    assert (result.writes, result.runs, result.refused, bool(result.left)) == (15, 1, [], False)
    (run_id,) = store.find_runs(None, {Tag.JOURNAL: KEY})
    record = store.record(run_id)
    assert (record.name, record.status, record.start_time, record.end_time) == (
        "trial",
        RunStatus.FINISHED,
        1000,
        2000,
    )
    assert store.experiment_name(store.experiment_of(run_id)) == "x"
    assert record.params == {"lr": "0.1", "augment": ""}
    assert store.history(run_id, "params") == {0: 5.0}
    assert store.history(run_id, "loss") == {1: 0.5, 2: math.inf}
    assert math.isnan(store.history(run_id, "nan")[1])
    assert {
        name: record.tags.get(name) for name in ("a", "gone", Tag.KIND, Tag.PARENT, Tag.INIT_FROM_RUN)
    } == {
        "a": "1",
        "gone": None,
        Tag.KIND: "trial",
        Tag.PARENT: "pending-parent",
        Tag.INIT_FROM_RUN: "pending-origin",
    }
    assert store.artifacts(run_id) == {
        "deep/config.yaml": b"text",
        "table.json": TABLE,
        "checkpoints/last.pt": b"weights",
        "model/data/model.pt2": b"graph",
    }
    assert store.datasets(run_id)["d"]["shape"] == (1, 8, 8)
    assert list(folder.iterdir()) == []


def test_this_version_writes_the_same(folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "model").mkdir(parents=True)
    (scratch / "model" / "model.pt2").write_bytes(b"graph")
    (scratch / "last.pt").write_bytes(b"weights")
    tracker = JournaledTracker(Away(), tmp_path / "new")
    run = tracker.open_run(
        name="trial",
        experiment=tracker.experiment("x"),
        tags={Tag.KIND: "trial"},
        parent_run_id="pending-parent",
        timestamp=1000,
    )
    run.log_params({"lr": "0.1"})
    run.log_params({"lr": "0.2", "augment": ""})
    run.log_metrics({"params": 5.0}, timestamp=1001)
    run.log_history({1: {"loss": 0.5, "nan": math.nan}, 2: {"loss": math.inf}}, timestamp=1002)
    run.set_tags({"a": "1", "gone": "größe"})
    run.remove_tags(["gone"])
    run.log_text("text", "deep/config.yaml")
    run.log_table(pd.DataFrame({"rank": [1]}), "table.json")
    run.log_file(scratch / "last.pt", "checkpoints")
    run.delete_file("checkpoints/spare.pt")
    run.log_dataset("d", digest="1", source="s", shape=[1, 8, 8], classes=["a", "b"], images={"train": 1})
    run.log_saved_model(scratch / "model")
    run.log_origin("pending-origin")
    run.end(RunStatus.FINISHED, timestamp=2000)
    tracker.flush(0.0)
    assert rows(tmp_path / "new") == rows(folder)
