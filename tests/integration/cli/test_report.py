"""`lab report`: the file, the artifact, and what is wrong with what was asked."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_swept_study_has_a_report_and_can_have_another(swept: Any) -> None:
    lab = swept
    (parent,) = lab.runs("tiny", kind="study")["run_id"]
    made = lab.tracker.download(parent, "report.html", lab.home / "kept")
    assert "is the best of 3 cells: val_accuracy" in made.read_text()
    result = lab("report", "tiny", "--out", lab.home / "tiny.html")
    assert (result.stdout, result.stderr) == (f"Wrote {lab.home / 'tiny.html'}\n", "")
    page = (lab.home / "tiny.html").read_text()
    assert page.count("Copy the command of rank") == 6  # in the leaderboard and below it
    assert "--dataset=synthetic" in page
    again = lab.tracker.download(parent, "report.html", lab.home / "again")
    assert again.read_text() == page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tinny"], "There is no study 'tinny'. Did you mean 'tiny'?"),
        (
            ["tiny", "--out", "nowhere/report.html"],
            "--out nowhere/report.html: there is no folder nowhere; create it",
        ),
        (["tiny", "--out", "."], "--out . is a folder; name a file in it, such as report.html"),
        (["tiny", "tiny"], "Each study can be named once, but tiny is named 2 times"),
    ],
)
def test_what_cannot_be_reported(swept: Any, arguments: list[str], said: str) -> None:
    result = swept("report", *arguments)
    assert result.exit_code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
