"""Compares this machine's clock with others."""

from __future__ import annotations

from lab.upkeep.finding import Finding, Verdict

__all__ = ["clock_finding"]

_MOST_SECONDS = 5.0  # a smaller difference does no harm


def clock_finding(ahead: float, other: str) -> Finding:
    """Return a finding about this machine's clock, which is `ahead` seconds ahead of that of `other`.

    The times of different machines are compared to tell dead workers from living ones, and newer attempts from older.
    """
    check = f"clock, against {other}"
    if abs(ahead) <= _MOST_SECONDS:
        return Finding(check, Verdict.OK, f"within {_MOST_SECONDS:.0f} s")
    way = "ahead of" if ahead > 0 else "behind"
    return Finding(
        check,
        Verdict.WARNING,
        f"this machine's clock is {abs(ahead):,.0f} s {way} that of {other}",
        "timedatectl set-ntp true (on the machine whose clock is wrong)",
    )
