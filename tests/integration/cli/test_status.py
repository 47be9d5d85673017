"""`lab status`, also before there is any study."""

from __future__ import annotations

import json
from typing import Any


def test_before_there_is_a_study(bare_lab: Any) -> None:
    assert bare_lab("status").stdout == "No studies yet: `lab sweep GRID` creates one\n"
    assert json.loads(bare_lab("status", "--format", "json").stdout) == []
    assert bare_lab("status", "--waiting").stdout == "0\n"
    for command in ("status", "best"):
        result = bare_lab(command, "nope")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "There is no study 'nope'. There are no studies yet" in result.stderr
    assert not (bare_lab.home / ".lab").exists()
