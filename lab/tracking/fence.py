"""Decides whether the writes of an attempt may still reach the run.

A run carries the attempt that opened it last in a tag. If that is a later attempt, possibly on another machine, an
earlier one must leave the run alone: it is lost. Attempts are ordered by the clocks of their machines, which may
differ; but one of which the study has just said that it has the trial is the latest, whatever the run carries. And
those of one journal follow each other in it, even if the clock was set back in between: if the run still carries the
last one that this journal opened, nobody else has opened it since.
"""

from __future__ import annotations

from lab.hold import Hold, Stopwatch
from lab.tracking.journal import RunJournal

__all__ = ["Fence"]

_FREE = Hold()  # of a journal without a living attempt
_SURE_SECONDS = 15.0  # after which another worker may have opened the run, so that the store is asked again


class Fence:
    """Whose writes a journal holds, and whether they may still be delivered.

    Args:
        journal: of the run; keeps what must outlive this process.
    """

    def __init__(self, journal: RunJournal) -> None:
        self._journal = journal
        self._holds: dict[str, Hold] = {}  # by attempt
        self._answered = Stopwatch()  # since the store last answered
        self.attempt = journal.fact("attempt") or ""  # whose writes come next
        self.is_taken_over = False  # by another attempt, as the store says
        self.is_unsure = False  # whether another worker may have opened the run since the last write

    @property
    def hold(self) -> Hold | None:
        """The hold of the attempt whose writes come next, None without one in this process."""
        return self._holds.get(self.attempt)

    @property
    def is_lost(self) -> bool:
        """Whether the attempt has lost its trial."""
        return self.is_taken_over or self._journal.fact("lost") == self.attempt

    def register(self, attempt: str, hold: Hold) -> None:
        """Note the hold that an attempt of this process has on its trial."""
        self._holds[attempt] = hold

    def begin(self, attempt: str) -> None:
        """Note that the next writes are those of `attempt`."""
        self.attempt, self.is_taken_over = attempt, False

    def confirm(self, *, anew: bool = False) -> None:
        """Ask whether the trial is still held; a run asks `anew` right before every write.

        Raises:
            Lost: it is not.
        """
        hold = self.hold or _FREE
        hold.confirm(anew=anew)
        if not hold.is_certain or self._answered.seconds > _SURE_SECONDS:
            self.doubt()

    def answered(self) -> None:
        """Note that the store has just answered."""
        self._answered.restart()

    def lose(self, attempt: str | None = None) -> None:
        """Note that an attempt, by default the present one, has lost its trial."""
        self._journal.note("lost", self.attempt if attempt is None else attempt)

    def doubt(self) -> None:
        """Note that another worker may have opened the run."""
        self.is_unsure = True

    def trust(self) -> None:
        """Note that nobody else can have opened the run since the store was asked."""
        self.is_unsure = False

    def opened(self) -> None:
        """Note that the present attempt has opened the run."""
        self.trust()
        self._journal.note("attempt", self.attempt)

    @property
    def opener(self) -> str | None:
        """The attempt that opened the run last, as far as this journal knows."""
        return self._journal.fact("attempt")

    def yield_to(self, latest: str) -> None:
        """Note the attempt that the run carries: a later one has taken it over, unless it is of this journal."""
        is_later = latest > self.attempt  # they begin with the time
        self.is_taken_over = is_later and latest != self.opener and not self._is_held()

    def compare(self, latest: str | None) -> None:
        """Note the attempt that the run carries: any but the opener has taken it over."""
        self.is_taken_over = latest is not None and latest != self.opener and not self._is_held()

    def _is_held(self) -> bool:
        """Whether the study says, asked just now, that the present attempt has the trial.

        What has changed since then shows right before the write, when it is asked again.
        """
        return self.hold is not None and not self.hold.is_lost(anew=True) and self.hold.is_known
