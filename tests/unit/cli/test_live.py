from __future__ import annotations

import io

import pytest
from rich.console import Console

from lab.cli.live import STOPPING, SweepDisplay
from lab.engines import Progress
from lab.identity import process_name
from lab.study import EpochEnded, TrialEnded, TrialStarted


def busy(workers: int = 2, label: str = "relu lr=0.01") -> Progress:
    progress = Progress("tiny", "val_accuracy", maximize=True, total=50)
    for worker in range(workers):
        progress.take(worker, TrialStarted(worker, f"{label} {worker}", 10))
        progress.take(worker, EpochEnded(worker, 4, {"val_accuracy": 0.5}))
    return progress


def drawn(progress: Progress, width: int = 80, height: int = 24, stopping: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    display = SweepDisplay(lambda: stopping, console)
    display.update(progress)
    lines = console.render_lines(display._render(), pad=False)
    return ["".join(segment.text for segment in line) for line in lines]


def test_a_row_for_each_worker_and_the_sum_of_it() -> None:
    progress = busy()
    progress.take(0, TrialEnded(7, "the best", "completed", 0.75))
    text = "\n".join(drawn(progress))
    assert "1       relu lr=0.01 1  4/10" in text
    assert "tiny: 1/50 done; 1 running, 48 waiting, 0 failed; about" in text
    assert "best val_accuracy 0.7500 (the best)" in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 10)])
@pytest.mark.parametrize("workers", [1, 3, 30])
def test_it_fits(width: int, height: int, workers: int) -> None:
    lines = drawn(busy(workers, "a long label " * 12), width, height, stopping=True)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert "4/10" in text
    assert f"{workers} running" in text or width == 40
    assert ("more" in text) == (workers > height - 7)


def test_workers_elsewhere_are_shown_with_their_machine() -> None:
    progress = busy(1)
    progress.take(3, TrialStarted(3, "gelu", 10, worker="node7:123:1795866631.08"))
    progress.take(4, TrialStarted(4, "tanh", 10, worker=process_name()))
    text = "\n".join(drawn(progress))
    assert "3 node7  gelu" in text
    assert "4        tanh" in text


@pytest.mark.parametrize("height", [12, 24])
def test_what_the_engine_says_is_below_the_workers_and_fits(height: int) -> None:
    progress = busy(30)
    progress.notes = ["slurm 7: 3 pending (Resources), 30 running", *(f"node{n}: \x1b[31m" for n in range(9))]
    lines = drawn(progress, width=80, height=height)
    assert len(lines) <= height
    text = "\n".join(lines)
    assert "slurm 7: 3 pending (Resources), 30 running\nnode0: \\x1b[31m\n… and 8 more lines\ntiny: " in text


def test_what_the_engine_says_is_a_line_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    progress = busy()
    with SweepDisplay(console=console) as display:
        for notes in (["2 pending"], ["2 pending"], ["1 pending", "[red]"], [], ["2 pending"]):
            progress.notes = notes
            display.update(progress)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines() == ["2 pending", "1 pending", "[red]", "2 pending"]


def test_it_says_that_it_stops() -> None:
    progress = busy()
    progress.stopping = True
    lines = drawn(progress, width=100, stopping=True)
    assert lines[0] == STOPPING
    assert any(line.endswith("; stopping") for line in lines)


def test_lines_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    progress = busy()
    with SweepDisplay(console=console) as display:
        progress.take(0, TrialEnded(0, "[red] one", "completed", 0.75))
        progress.take(1, TrialEnded(1, "two", "failed", error="ValueError: " + "long " * 40))
        display.update(progress)
        display.update(progress)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines()[0] == " 1/50  [red] one  completed  val_accuracy 0.7500"
    assert text.splitlines()[1].startswith(" 2/50  two  failed  ValueError: long long")
    assert len(text.splitlines()) == 2


def test_trials_that_end_together_are_counted_one_by_one() -> None:
    console = Console(file=io.StringIO(), width=80)
    display, progress = SweepDisplay(console=console), busy(workers=3)
    progress.take(0, TrialEnded(0, "first", "completed", 0.5))
    progress.take(1, TrialEnded(1, "stopped", "killed"))
    progress.take(2, TrialEnded(2, "second", "failed", error="no"))
    display.update(progress)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[:2] for line in lines] == [
        ["1/50", "first"],
        ["1/50", "stopped"],
        ["2/50", "second"],
    ]
