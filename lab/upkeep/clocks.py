"""Whether this machine's clock agrees with those that it is compared with."""

from __future__ import annotations

from lab.upkeep.finding import Finding, Verdict

__all__ = ["clock_finding"]

_MOST_SECONDS = 5.0


def clock_finding(ahead: float, other: str) -> Finding:
    """Return how this machine's clock stands to that of `other`, which it is `ahead` of by so many seconds.

    Heartbeats tell the dead from the living, and attempts the newer from the older, by comparing clocks.
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
