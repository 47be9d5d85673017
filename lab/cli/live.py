"""The progress of a sweep: a live table in a terminal, elsewhere a line for each trial that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from lab import engines
from lab.cli.console import terminal
from lab.cli.messages import data_lines
from lab.wording import counted

if TYPE_CHECKING:
    from lab.engines import Progress
    from lab.study import Submission, TrialEnded

__all__ = ["STOPPING", "SweepDisplay", "summary", "unverified"]

STOPPING = "Stopping: trials checkpoint and return to the queue. Ctrl-C again ends at once."

_LINE_EVERY = 60.0  # maximum seconds between lines where there is no live table


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
        self._shown = engines.progress_table(progress, self._console.width, self._console.height)
        if not self._console.is_terminal:
            self._tell(progress)

    def _tell(self, progress: Progress) -> None:
        """Print what the table shows in a terminal: what the engine says when that changes, the totals regularly."""
        lines = [line for line in progress.notes if line not in self._noted]
        self._noted = list(progress.notes)
        if time.monotonic() - self._told_at > _LINE_EVERY:
            self._told_at = time.monotonic()
            lines.append("; ".join(engines.progress_lines(progress)))
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
