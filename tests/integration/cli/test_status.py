"""`lab status` and `lab list`, also before there is any study."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

AGE = r"(now|\d+ min ago|\d+ h ago) *"  # of a study of this test run


def test_before_there_is_a_study(bare_lab: Any) -> None:
    assert bare_lab("status").stdout == "No studies yet: `lab sweep GRID` creates one\n"
    assert json.loads(bare_lab("status", "--format", "json").stdout) == []
    assert bare_lab("status", "--waiting").stdout == "0\n"
    for command in ("status", "best"):
        result = bare_lab(command, "nope")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "There is no study 'nope'. There are no studies yet" in result.stderr
    assert not (bare_lab.home / ".lab").exists()


def test_all_studies_in_one_table(swept: Any) -> None:
    shown = swept("list").stdout
    head = r" *study +state +done +failed +best +active *\n"
    row = r" *tiny +done +3/3 +– +val_accuracy 0\.\d{4} +"
    assert re.fullmatch(f"{head}{row}{AGE}\n", shown)
    # a minute may pass between the two
    assert re.sub(AGE, "", swept("status").stdout).split() == re.sub(AGE, "", shown).split()
    (listed,) = json.loads(swept("list", "--format", "json").stdout)
    assert json.loads(swept("status", "--format", "json").stdout) == [listed]
    status = json.loads(swept("status", "tiny", "--format", "json").stdout)
    assert listed.items() >= {key: status[key] for key in ("name", "monitor", "best_value", "states")}.items()
    (cells,) = csv.DictReader(io.StringIO(swept("list", "--format", "csv").stdout))
    assert cells == {
        key: "" if value is None else str(value) for key, value in listed.items() if key != "states"
    }
