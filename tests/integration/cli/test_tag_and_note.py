"""`lab tag` and `lab note`."""

from __future__ import annotations

import re
from typing import Any

import pytest


def tags(lab: Any, kind: str = "study") -> dict[str, str]:
    found: dict[str, str] = lab.tracker.tags(lab.runs("tiny", kind)["run_id"][0])
    return found


@pytest.fixture
def planned(lab: Any) -> Any:
    assert lab("submit", "tiny.yaml").exit_code == 0
    return lab


def test_tags_and_notes_of_a_study_and_of_a_run(planned: Any) -> None:
    run_id = planned.runs("tiny", "study")["run_id"][0]
    tagged = planned("tag", "tiny", "owner=ana", "paper=table 2 = best")
    assert (tagged.exit_code, "study tiny: owner=ana, paper=table 2 = best" in tagged.stdout) == (0, True)
    removed = planned("tag", f"runs:/{run_id}", "seen=", "--remove", "owner", "--remove", "never")
    assert (removed.exit_code, removed.stdout.splitlines()[0]) == (
        0,
        f"run {run_id}: seen=, owner removed, never not removed: there is no such tag",
    )
    found = tags(planned)
    assert (found["paper"], found["seen"], "owner" in found) == ("table 2 = best", "", False)
    assert planned("note", "tiny", " *Mine.* ").exit_code == 0
    assert tags(planned)["mlflow.note.content"] == "*Mine.*"
    (planned.home / "tiny.yaml").write_text(
        "description: What wins?\n" + (planned.home / "tiny.yaml").read_text()
    )
    planned("submit", "tiny.yaml")
    assert tags(planned)["mlflow.note.content"] == "*Mine.*"
    assert "note removed" in planned("note", "tiny", "").stdout
    assert "mlflow.note.content" not in tags(planned)
    planned("submit", "tiny.yaml")
    assert tags(planned)["mlflow.note.content"] == "What wins?"


WRONG = [
    (
        ("tag", "tiny", "lab.study=x"),
        2,
        "the tag 'lab.study' is lab's own; choose a name that does not begin",
    ),
    (("tag", "tiny", "--remove", "Lab.cell"), 2, "the tag 'Lab.cell' is lab's own"),
    (("tag", "tiny", "mlflow.note.content=x"), 2, "is MLflow's own; .*, or use `lab note`"),
    (("tag", "tiny"), 2, "Give KEY=VALUE to set a tag, or --remove KEY"),
    (("tag", "tiny", "owner"), 2, "A tag is KEY=VALUE, e.g. owner=ana, but got 'owner'"),
    (("tag", "tiny", "=ana"), 2, "but got '=ana'"),
    (("tag", "tiny", "a=1", "--remove", "a"), 2, "a is both set and removed"),
    (
        ("tag", "tinny", "a=1"),
        1,
        r"^Error: There is no study or run 'tinny'\. Did you mean 'tiny'\?$",
    ),
    (
        ("tag", "nothere", "a=1"),
        1,
        r"^Error: There is no study or run 'nothere'\. `lab list` shows the studies$",
    ),
    (("tag", "best:nothere", "a=1"), 1, r"^Error: There is no study 'nothere' at \S+; sweep it first$"),
    (("note", "abcdef", "x"), 1, r"^Error: No trial at \S+ has a run id that begins with abcdef$"),
    (("note", "best:tiny", "x"), 1, r"^Error: No trial of the study 'tiny' at \S+ has finished yet$"),
]


def test_what_cannot_be_tagged(planned: Any) -> None:
    before = tags(planned)
    for arguments, code, message in WRONG:
        result = planned(*arguments)
        assert (result.exit_code, result.stdout) == (code, ""), arguments
        assert re.search(message, " ".join(result.stderr.split())), arguments
    assert tags(planned) == before


def test_a_study_that_was_imported_can_be_tagged(planned: Any) -> None:
    (planned.home / "theirs.csv").write_text("metrics.accuracy,params.lr\n0.5,0.1\n")
    assert planned("import", "theirs.csv").exit_code == 0
    assert "study theirs: owner=ana" in planned("tag", "theirs", "owner=ana").stdout
    assert planned.tracker.tags(planned.runs("theirs", "study")["run_id"][0])["owner"] == "ana"
