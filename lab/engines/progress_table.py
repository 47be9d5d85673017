"""The progress of a sweep as a table: which worker trains what, and the totals."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab.engines.progress import Progress, Running
from lab.errors import printable
from lab.report import duration
from lab.wording import counted

__all__ = ["progress_lines", "progress_table"]

_OTHER_LINES = 7  # of the table, besides those of workers
_HOST_WIDTH = 20
_MOST_NOTES = 3  # lines of what the engine says
_WIDE = 60  # columns that a terminal must have for progress bars


def progress_table(progress: Progress, width: int, height: int) -> RenderableType:
    """Return the live table: a row for each worker, as many as there is room for, and totals."""
    running = sorted(progress.running.items())
    notes = _shown_notes(progress)
    room = max(1, height - _OTHER_LINES - len(notes))
    shown = running if len(running) <= room else running[: max(1, room - 1)]
    workers = _worker_table(shown, progress.monitor, with_bars=width >= _WIDE)
    lines = (
        [] if len(shown) == len(running) else [f"… and {counted(len(running) - len(shown), 'more worker')}"]
    )
    texts = (
        Text(line, no_wrap=True, overflow="ellipsis") for line in [*lines, *notes, *progress_lines(progress)]
    )
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


def progress_lines(progress: Progress) -> list[str]:
    """Return the totals in one line, and the best value so far in another."""
    parts = [f"{progress.done:,}/{progress.total:,} done"]
    running = f"{len(progress.running)} running"
    if progress.elsewhere:
        running += f", {progress.elsewhere:,} elsewhere"
    parts.append(f"{running}, {progress.waiting:,} waiting, {progress.failed:,} failed")
    left = progress.seconds_left()
    if progress.stopping:
        parts.append("stopping")
    elif left is not None and (progress.waiting or progress.running):
        parts.append(f"about {duration(max(1.0, left))} left")
    lines = [f"{progress.study}: " + "; ".join(parts)]
    if progress.best_value is not None:
        lines.append(f"best {progress.monitor} {progress.best_value:.4f} ({progress.best_label})")
    return lines
