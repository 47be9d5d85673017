from __future__ import annotations

import pytest

from lab.engines.wall_time import minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4h", 240),
        ("90m", 90),
        ("90min", 90),
        ("1h30m", 90),
        ("1h 30m", 90),
        ("2d", 2880),
        ("1d12h", 2160),
        ("61s", 2),
        (90, 90),
        ("90", 90),
        ("0", 0),
        ("90:30", 91),  # minutes:seconds
        ("1:30:00", 90),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("1-12:00:01", 2161),
    ],
)
def test_minutes(text: object, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "h", "0h", "4 hours", "-3", "1.5", 1.5, True, None, "1-", "1:2:3:4", "9" * 99]
)
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError, match="must be a time such as 4h, 90m"):
        minutes(text)
