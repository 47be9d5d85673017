"""Wall times, as people and Slurm write them."""

from __future__ import annotations

import math
import re

__all__ = ["minutes"]

_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?", re.IGNORECASE)
_SLURMS = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")
_SECONDS = (86_400, 3600, 60, 1)
_MOST_DIGITS = 9
_FORMS = "a time such as 4h, 90m, 1h30m, 2d or one of Slurm's: 90 (minutes), 1:30:00, 1-12:00:00"


def minutes(value: object) -> int:
    """Return the minutes of a wall time; seconds count as a minute that has begun, as they do for Slurm.

    Args:
        value: `4h`, `1h30m`, or one of the forms that `sbatch --time` takes; a number is minutes.

    Raises:
        ValueError: it is none of these.
    """
    text = str(value).replace(" ", "")
    if isinstance(value, bool) or len(text) > 4 * _MOST_DIGITS:
        raise ValueError(f"must be {_FORMS}")
    found = _UNITS.fullmatch(text)
    units = [] if found is None else [int(part or 0) for part in found.groups()]
    parts = units if any(units) else _slurms(text)
    return math.ceil(sum(part * unit for part, unit in zip(parts, _SECONDS, strict=True)) / 60)


def _slurms(text: str) -> list[int]:
    """Return days, hours, minutes and seconds of one of Slurm's forms."""
    found = _SLURMS.fullmatch(text)
    if found is None:
        raise ValueError(f"must be {_FORMS}")
    clock = [int(part) for part in found["clock"].split(":")]
    if found["days"] is not None:  # days-hours, days-hours:minutes, days-hours:minutes:seconds
        return [int(found["days"]), *clock, *[0] * (3 - len(clock))]
    if len(clock) == 1:  # minutes; two are minutes:seconds
        clock.append(0)
    return [0, *[0] * (3 - len(clock)), *clock]
