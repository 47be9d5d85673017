"""Times for people."""

from __future__ import annotations

import math

from lab.wording import counted

__all__ = ["ago", "duration"]


def duration(seconds: float) -> str:
    """Return a time in seconds as people say it: `0.8 s`, `42 s`, `3 min 20 s`, `2 h 05 min`; `inf` as it is."""
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def ago(seconds: float) -> str:
    """Return how long ago something was, as people say it: `now`, `3 min ago`, `5 h ago`, `40 days ago`."""
    if seconds < 60:
        return "now"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min ago"
    hours = minutes // 60
    return f"{hours} h ago" if hours < 24 else f"{counted(hours // 24, 'day')} ago"
