"""`lab delete`, `lab stop` and `lab priority`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from lab.cli.options import stores_from
from lab.engines import find_runs_to_delete
from lab.errors import StudyError
from lab.study import TrialQueue, TrialRecord, existing_study
from lab.study.queue import Queued


def states(lab: Any) -> dict[str, int]:
    found: dict[str, int] = json.loads(lab("status", "tiny", "--format", "json").stdout)["states"]
    return found


def put_back(queue: TrialQueue, noted: str) -> TrialRecord:
    """Put the trial whose run has this id back into the queue, to be continued."""
    (record,) = [record for record in queue.newest().values() if record.run_id == noted]
    queue.enqueue([Queued(record.trial.params, record.trial.distributions, record.kept())])
    return record


def test_runs_are_deleted_and_their_cells_may_be_tried_again(swept: Any) -> None:
    chosen = ("delete", "tiny", "--cell", "lr=0.02")
    asked = swept(*chosen)
    assert (asked.exit_code, "Delete 1 run?" in asked.stdout) == (1, True)  # nobody has said yes
    assert states(swept) == {"complete": 3}
    store = f"MLFLOW_TRACKING_URI=sqlite:///{swept.home}/.lab/mlflow.db"
    said = f"Deleted 1 run. To restore one, before `lab gc`: {store} mlflow runs restore --run-id "
    assert said in swept(*chosen, "--yes").stdout
    assert states(swept) == {"complete": 2, "deleted": 1}
    assert "No cell of study 'tiny' with lr=0.02 has a run to delete" in swept(*chosen, "--yes").stderr
    run_id = swept.runs("tiny")["run_id"][0]
    assert "lab retry tiny --deleted" in swept("delete", run_id[:8], "--yes").stdout
    assert states(swept) == {"complete": 1, "deleted": 2}
    assert "2 deleted cells requeued" in swept("retry", "tiny", "--deleted").stdout
    assert states(swept) == {"complete": 1, "waiting": 2}


def test_what_is_to_be_continued_is_not_deleted(swept: Any) -> None:
    """Neither at first, nor once the user has agreed: a worker that continued it would fail."""
    stores = stores_from(None, None)  # as the commands do
    agreed = find_runs_to_delete("tiny", stores, ["lr=0.02"])
    queue = existing_study(stores.storage, "tiny")
    (run_id,) = agreed.runs
    record = put_back(queue, run_id)
    with pytest.raises(
        StudyError, match=rf"is waiting to be continued; .* `lab stop tiny --cell {record.cell}`"
    ):
        agreed.carry_out()
    for name in (("tiny", "--cell", "lr=0.02"), (run_id,)):
        refused = swept("delete", *name, "--yes")
        assert (refused.exit_code, "is waiting to be continued" in refused.stderr) == (1, True)
    swept("cancel", "tiny")
    assert "is cancelled and may be continued" in swept("delete", run_id, "--yes").stderr
    swept("stop", "tiny", "--cell", record.cell)
    assert "Deleted 1 run" in swept("delete", run_id, "--yes").stdout


def test_runs_that_began_before_the_store_had_them_are_deleted_all_the_same(swept: Any) -> None:
    runs = swept.runs("tiny")
    noted = {
        f'"{run_id}"': f'"pending-{key}"'
        for run_id, key in zip(runs["run_id"], runs["tags.lab.journal"], strict=True)
    }
    with closing(sqlite3.connect(swept.home / ".lab" / "optuna.db")) as database, database:
        for run_id, pending in noted.items():
            changed = database.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'lab:run_id' AND value_json = ?",
                (pending, run_id),
            )
            assert changed.rowcount == 1
    assert "Deleted 1 run" in swept("delete", "tiny", "--cell", "lr=0.02", "--yes").stdout
    assert "lab retry tiny --deleted" in swept("delete", runs["run_id"][0], "--yes").stdout
    assert states(swept) == {"complete": 1, "deleted": 2}
    assert "2 deleted cells requeued" in swept("retry", "tiny", "--deleted").stdout
    put_back(
        existing_study(stores_from(None, None).storage, "tiny"), f"pending-{runs['tags.lab.journal'][1]}"
    )
    assert "is waiting to be continued" in swept("delete", runs["run_id"][1], "--yes").stderr
    assert swept("sweep", "tiny.yaml", "--workers", "1").exit_code == 0
    assert states(swept) == {"complete": 3}
    kept = swept.runs("tiny")["run_id"].tolist()
    assert (len(kept), kept[1]) == (3, runs["run_id"][1])


def test_what_is_not_deleted(swept: Any) -> None:
    whole = swept.runs("tiny", "study")["run_id"][0]
    for name, message in (
        ("tiny", "'tiny' is a study: say which of its cells"),
        (whole, "is that of the whole study"),
    ):
        refused = swept("delete", name, "--yes")
        assert (refused.exit_code, message in refused.stderr) == (1, True)
    running = swept.tracker.open_run(
        name="r", experiment=swept.tracker.experiment("lab"), tags={"lab.kind": "trial"}
    )
    refused = swept("delete", running.run_id, "--yes")
    assert f"Run {running.run_id} is running: stop it first" in refused.stderr
    assert states(swept) == {"complete": 3}


def test_cells_are_stopped_and_studies_get_a_priority(lab: Any) -> None:
    lab("submit", "tiny.yaml")
    stopped = lab("stop", "tiny", "--cell", "lr=0.01")
    assert (stopped.exit_code, stopped.stdout) == (0, "tiny: 2 waiting trials ended\n")
    assert states(lab) == {"pruned": 2, "waiting": 1}
    assert "is pruned: it has ended already" in lab("stop", "tiny", "--cell", "lr=0.01").stderr
    assert "Say which cells with --cell" in lab("stop", "tiny").stderr
    assert (
        "1 waiting trial ended, 2 trials over before"
        in lab("stop", "tiny", "--cell", "batch_size=256").stdout
    )
    assert lab("submit", "tiny.yaml").stdout.startswith("tiny: 0 cells queued")
    assert lab("priority", "tiny", "5").stdout == "tiny: priority 5, 0 before\n"
    assert lab("priority", "tiny", "-1").stdout == "tiny: priority -1, 5 before\n"
    assert "  priority -1\n" in lab("status", "tiny").stdout
    assert lab("priority", "tiny", "2000").exit_code == 2
