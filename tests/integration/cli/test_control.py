"""`lab delete`, `lab stop` and `lab priority`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.cli.options import stores_from
from lab.engines import find_runs_to_delete
from lab.errors import StudyError
from lab.study import existing_study
from lab.study.queue import Queued


def states(lab: Any) -> dict[str, int]:
    found: dict[str, int] = json.loads(lab("status", "tiny", "--format", "json").stdout)["states"]
    return found


def test_runs_are_deleted_and_their_cells_may_be_tried_again(swept: Any) -> None:
    chosen = ("delete", "tiny", "--cell", "lr=0.02")
    asked = swept(*chosen)
    assert (asked.exit_code, "Delete 1 run?" in asked.stdout) == (1, True)  # nobody has said yes
    assert states(swept) == {"complete": 3}
    assert "Deleted 1 run. To restore one, before `lab gc`" in swept(*chosen, "--yes").stdout
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
    (record,) = [record for record in queue.newest().values() if record.run_id == run_id]
    queue.enqueue([Queued(record.trial.params, record.trial.distributions, record.kept())])
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
