"""A sweep as it goes: a live table in a terminal, a line for each finished trial elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab.report.render import duration

if TYPE_CHECKING:
    from lab.engines import Progress
    from lab.study import Submission, TrialEnded

__all__ = ["SweepDisplay"]

_LINE_EVERY = 60.0  # seconds between lines where nobody looks at a live table


class SweepDisplay:
    """Shows a sweep's progress on `console`; a context manager around the sweep."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._told = 0
        self._told_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def queued(self, done: int, total: int) -> None:
        """Show how many cells are queued."""
        if self._console.is_terminal:
            self._live.update(Text(f"queueing cells: {done:,} of {total:,}"))

    def planned(self, submission: Submission, progress: Progress) -> None:
        """Say what the sweep is about to do."""
        parts = [f"{submission.added} cells queued"]
        if submission.present:
            parts.append(
                f"{submission.present} known already ({progress.done} done, {progress.failed} failed)"
            )
        if submission.skipped:
            parts.append(f"{submission.skipped} left out (`lab plan` says why)")
        if submission.gone:
            parts.append(f"{submission.gone} cells of earlier files left as they are")
        self._console.print(f"{progress.study}: {', '.join(parts)}", highlight=False)

    def update(self, progress: Progress) -> None:
        """Show how things stand now."""
        for ended in progress.ended[self._told :]:
            self._console.print(_line(ended, progress), highlight=False, soft_wrap=True)
            self._told_at = time.monotonic()
        self._told = len(progress.ended)
        if self._console.is_terminal:
            self._live.update(_table(progress))
        elif time.monotonic() - self._told_at > _LINE_EVERY:
            self._told_at = time.monotonic()
            self._console.print(_summary(progress), highlight=False, soft_wrap=True)


def _line(ended: TrialEnded, progress: Progress) -> Text:
    """Return what is said of a trial that has ended."""
    count = f"{progress.done + progress.failed:>{len(str(progress.total))}}/{progress.total}"
    value = "" if ended.value is None else f"  {progress.monitor} {ended.value:.4f}"
    return Text(f"{count}  {ended.label}  {ended.outcome}{value}{'  ' if ended.error else ''}{ended.error}")


def _table(progress: Progress) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("worker", "trial", "epoch", "", progress.monitor):
        table.add_column(heading, justify="right" if heading == progress.monitor else "left")
    for worker, trial in sorted(progress.running.items()):
        value = "" if trial.value is None else f"{trial.value:.4f}"
        bar = ProgressBar(total=trial.epochs, completed=trial.epoch, width=20)
        table.add_row(str(worker), Text(trial.label), f"{trial.epoch}/{trial.epochs}", bar, value)
    total = ProgressBar(total=progress.total, completed=progress.done + progress.failed, width=60)
    return Group(table, Text(_summary(progress)), total)


def _summary(progress: Progress) -> str:
    parts = [f"{progress.done}/{progress.total} done"]
    parts.append(f"{len(progress.running)} running, {progress.waiting} waiting, {progress.failed} failed")
    if progress.best_value is not None:
        parts.append(f"best {progress.monitor} {progress.best_value:.4f} ({progress.best_label})")
    left = progress.seconds_left()
    if left is not None and (progress.waiting or progress.running):
        parts.append(f"about {duration(left)} left")
    return f"{progress.study}: " + "; ".join(parts)
