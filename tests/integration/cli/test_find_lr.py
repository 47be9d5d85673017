"""`lab find-lr`."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from lab.plugins import kept


def test_it_suggests_a_rate_and_keeps_the_curve(lab: Any) -> None:
    result = lab("find-lr", "config.yaml", "--steps", "30", "--from", "1e-5", "--to", "0.1", "--width", "6")
    assert result.exit_code == 0
    assert "Suggestion: lr=" in result.stdout
    assert "Browse it: lab ui, then http://127.0.0.1:5000/#/experiments/" in result.stdout
    run = lab.runs("lab", "lr_range").iloc[0]
    assert (run["name"], run["status"], run["tags.lab.kind"]) == ("find-lr", "FINISHED", "lr_range")
    assert (run["params.width"], run["params.lr_steps"]) == ("6", "30")
    assert f"{run['metrics.suggested_lr']:.1e}" in result.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--from", "1", "--to", "0.1"], "--from must be above 0 and below --to, but got --from 1 --to 0.1"),
        (["--to", "inf"], "--from must be above 0 and below --to"),
        (["--steps", "3"], "3 is not in the range"),
        (["nope.yaml"], "nope.yaml: no such file"),
        (["--actvation", "gelu"], "No such option '--actvation'"),
    ],
)
def test_a_mistake_is_reported_once_and_costs_nothing(bare_lab: Any, args: list[str], said: str) -> None:
    result = bare_lab("find-lr", *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (bare_lab.home / ".lab").exists()


def test_the_settings_of_the_files_plug_ins_are_options(bare_lab: Any) -> None:
    code = "import lab\n@lab.activation\ndef bowed(*, bow: float = 0.5): ..."
    (bare_lab.home / "bowed_things.py").write_text(code)
    (bare_lab.home / "bowed.yaml").write_text("{use: [bowed_things.py], activation: bowed}")
    try:
        for args in (["bowed.yaml", "--bow", "x"], ["--download", "--bow", "-1", "bowed.yaml", "--bow", "x"]):
            result = bare_lab("find-lr", *args)
            assert result.stderr == "Error: bow: must be a valid number, but got 'x'\n"
    finally:
        kept._take_out("bowed_things")


@pytest.mark.slow
def test_ctrl_c_keeps_what_there_is_of_the_curve(lab: Any) -> None:
    steps = 20_000
    process = lab.start("find-lr", "config.yaml", "--steps", steps, "--from", "1e-7", "--to", "1e-5")
    assert next(iter(process.stdout)).startswith("step  1000")
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip() == (
        "Stopping at the next step; the curve until then is kept. Press Ctrl-C again to end at once."
    )
    runs = lab.runs("lab", "lr_range")
    assert runs["status"].tolist() == ["KILLED"]
    done = len(lab.tracker.history(runs.iloc[0]["run_id"], "smoothed_loss"))
    assert 1000 <= done < steps
    assert f"Stopped after {done} of {steps} steps at lr " in out
    assert f"run {runs.iloc[0]['run_id']}" in out
