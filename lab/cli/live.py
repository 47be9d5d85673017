"""The progress of a sweep: a live table in a terminal, elsewhere a line for each trial that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab import report
from lab.cli.console import terminal
from lab.cli.messages import data_lines
from lab.errors import printable
from lab.wording import counted

if TYPE_CHECKING:
    from lab.engines import Progress, Running
    from lab.study import Submission, TrialEnded

__all__ = ["STOPPING", "SweepDisplay", "summary", "unverified"]

STOPPING = "Stopping: trials checkpoint and return to the queue. Ctrl-C again ends at once."

_LINE_EVERY = 60.0  # maximum seconds between lines where there is no live table
_OTHER_LINES = 7  # of the live table, besides those of workers
_HOST_WIDTH = 20
_MOST_NOTES = 3  # lines of what the engine says
_WIDE = 60  # columns that a terminal must have for progress bars


class SweepDisplay:
    """Shows a sweep's progress; a context manager around the sweep.

    Args:
        stopping: whether the sweep was asked to stop.
        console: to show it on; stdout if None.
        message: shown once it was.
    """

    def __init__(
        self,
        stopping: Callable[[], bool] = lambda: False,
        console: Console | None = None,
        message: str = STOPPING,
    ) -> None:
        self._message = message
        self._stopping = stopping
        self._console = console or terminal()
        self._shown: RenderableType = Text("checking every cell and the data …")
        self._live = Live(
            console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True
        )
        self._told = 0
        self._told_at = time.monotonic()
        self._noted: list[str] = []

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def data(self, notes: Sequence[str]) -> None:
        """Show how the data is read."""
        for line in data_lines(notes):
            self._console.print(Text(line), soft_wrap=True)

    def queued(self, done: int, total: int) -> None:
        """Show how many cells are queued."""
        self._shown = Text(f"queueing cells: {done:,} of {total:,}")

    def planned(self, submission: Submission, progress: Progress) -> None:
        """Show what was queued of a study, before it is trained."""
        self._told = 0
        self._console.print(summary(submission, progress), highlight=False, soft_wrap=True)
        self._shown = Text("starting workers …" if progress.waiting else "")

    def update(self, progress: Progress) -> None:
        """Show the progress."""
        new = progress.ended[self._told :]
        over = progress.done + progress.failed - sum(map(_is_over, new))
        for ended in new:
            over += _is_over(ended)
            self._console.print(_line(ended, over, progress), highlight=False, soft_wrap=True)
            self._told_at = time.monotonic()
        self._told = len(progress.ended)
        self._shown = _table(progress, self._console.width, self._console.height)
        if not self._console.is_terminal:
            self._tell(progress)

    def _tell(self, progress: Progress) -> None:
        """Print what the table shows in a terminal: what the engine says when that changes, the totals regularly."""
        lines = [line for line in progress.notes if line not in self._noted]
        self._noted = list(progress.notes)
        if time.monotonic() - self._told_at > _LINE_EVERY:
            self._told_at = time.monotonic()
            lines.append("; ".join(_summary(progress)))
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)

    def _render(self) -> RenderableType:
        """Return the live part. It asks whether to stop: a signal handler must not print into it."""
        if not self._stopping():
            return self._shown
        return Group(Text(self._message, style="yellow", no_wrap=True, overflow="ellipsis"), self._shown)


def summary(submission: Submission, progress: Progress) -> str:
    """Return what was queued of a study, and what was there."""
    parts = [f"{counted(submission.added, submission.unit)} queued"]
    if submission.present:
        parts.append(
            f"{submission.present:,} already in the study ({progress.done:,} done, {progress.failed:,} failed)"
        )
    if submission.stale:
        parts.append(f"{submission.stale:,} of them requeued because their images have changed")
    if submission.deleted:
        again = f"retrain them with `lab retry {progress.study} --deleted`"
        parts.append(f"{submission.deleted:,} of them deleted in MLflow ({again})")
    if submission.skipped:
        parts.append(f"{submission.skipped:,} excluded (`lab plan` says why)")
    if submission.gone:
        parts.append(f"{counted(submission.gone, 'cell')} from earlier files left as is")
    text = f"{progress.study}: {', '.join(parts)}"
    return text if not submission.unverified else f"{text}\n{unverified(submission.unverified)}"


def unverified(cells: int) -> str:
    """Return what to say about cells that an earlier version of lab trained."""
    return (
        f"{counted(cells, 'cell')} came from an earlier version of lab, which did not record which images it used;"
        " from now on, changes to the images are noticed"
    )


def _is_over(ended: TrialEnded) -> bool:
    """Return whether a trial has ended for good: one that was stopped continues later."""
    return ended.outcome != "killed"


def _line(ended: TrialEnded, over: int, progress: Progress) -> Text:
    """Return the line for a trial that has ended, as the study's `over`-th."""
    count = f"{over:>{len(str(progress.total))}}/{progress.total}"
    value = "" if ended.value is None else f"  {progress.monitor} {ended.value:.4f}"
    return Text(f"{count}  {ended.label}  {ended.outcome}{value}{'  ' if ended.error else ''}{ended.error}")


def _table(progress: Progress, width: int, height: int) -> RenderableType:
    """Return the live table: a row for each worker, as many as there is room for, and totals."""
    running = sorted(progress.running.items())
    notes = _shown_notes(progress)
    room = max(1, height - _OTHER_LINES - len(notes))
    shown = running if len(running) <= room else running[: max(1, room - 1)]
    workers = _worker_table(shown, progress.monitor, with_bars=width >= _WIDE)
    lines = (
        [] if len(shown) == len(running) else [f"… and {counted(len(running) - len(shown), 'more worker')}"]
    )
    texts = (Text(line, no_wrap=True, overflow="ellipsis") for line in [*lines, *notes, *_summary(progress)])
    total = ProgressBar(total=progress.total, completed=progress.done + progress.failed, width=60)
    return Group(workers, *texts, total)


def _shown_notes(progress: Progress) -> list[str]:
    """Return what the engine says, as far as there is room for it."""
    notes = [printable(line) for line in progress.notes]
    if len(notes) <= _MOST_NOTES:
        return notes
    return [*notes[: _MOST_NOTES - 1], f"… and {counted(len(notes) - _MOST_NOTES + 1, 'more line')}"]


def _worker_table(running: list[tuple[int, Running]], monitor: str, *, with_bars: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("worker", "trial", "epoch", *([""] if with_bars else []), monitor):
        # in a narrow terminal only the labels are cut
        right = heading == monitor
        table.add_column(heading, no_wrap=heading != "trial", justify="right" if right else "left")
    for worker, trial in running:
        label = Text(trial.label, no_wrap=True, overflow="ellipsis")
        value = "" if trial.value is None else f"{trial.value:.4f}"
        bar = [ProgressBar(total=trial.epochs, completed=trial.epoch, width=15)] if with_bars else []
        name = f"{worker} {printable(trial.host)[:_HOST_WIDTH]}".rstrip()
        table.add_row(name, label, f"{trial.epoch}/{trial.epochs}", *bar, value)
    return table


def _summary(progress: Progress) -> list[str]:
    """Return the totals in one line, and the best value so far in another."""
    parts = [f"{progress.done:,}/{progress.total:,} done"]
    parts.append(f"{len(progress.running)} running, {progress.waiting:,} waiting, {progress.failed:,} failed")
    left = progress.seconds_left()
    if progress.stopping:
        parts.append("stopping")
    elif left is not None and (progress.waiting or progress.running):
        parts.append(f"about {report.duration(max(1.0, left))} left")
    lines = [f"{progress.study}: " + "; ".join(parts)]
    if progress.best_value is not None:
        lines.append(f"best {progress.monitor} {progress.best_value:.4f} ({progress.best_label})")
    return lines
