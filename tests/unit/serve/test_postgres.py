from __future__ import annotations

import pytest

from lab.serve.postgres import _reason

FULL = """2026-11-30 11:39:18.628 UTC [32532] FATAL:  could not extend file "base/1/2691"
2026-11-30 11:39:18.628 UTC [32532] HINT:  Check free disk space.
Aborted
child process exited with exit code 134
initdb: removing data directory "/data"
"""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (FULL, 'FATAL:  could not extend file "base/1/2691" HINT:  Check free disk space.'),
        ("one\ntwo\nthree\n  four\n", "two three four"),
        ("", ""),
    ],
)
def test_why_a_program_failed(said: str, reason: str) -> None:
    assert _reason(said) == reason
