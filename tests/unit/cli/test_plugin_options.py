"""Plug-ins on the command line: their settings are options, and `--help` knows their names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lab import plugins
from lab.cli import main
from lab.cli.plugin_options import PluginCommand
from lab.config import parse_config
from lab.config.grid import FILE_KEYS
from lab.config.own import RESERVED
from lab.config.settings import Settings
from lab.plugins import kept, loading

CODE = """
import lab


@lab.activation
def bent(*, bend: float = 0.5):
    raise AssertionError("nothing is built here")
"""
METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: bent-things\nVersion: 1.2\n",
    "RECORD": "bent_things.py,,\n",
    "entry_points.txt": "[lab.plugins]\nthings = bent_things\n",
}


def write_package(folder: Path) -> None:
    """Write what pip leaves of an installed package with a plug-in."""
    (folder / "bent_things.py").write_text(CODE)
    about = folder / "bent_things-1.2.dist-info"
    about.mkdir()
    for name, text in METADATA.items():
        (about / name).write_text(text)


def forget_installed() -> None:
    loading.use_installed.cache_clear()
    loading._distributions.cache_clear()


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    write_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    forget_installed()
    yield
    if "bent_things" in sys.modules:
        kept._take_out("bent_things")
    forget_installed()


def test_no_parameter_of_a_plugin_can_be_taken_for_an_option() -> None:
    commands = [command for command in main.commands.values() if isinstance(command, PluginCommand)]
    params = [
        param for command in commands for param in command.params if param.name not in Settings.model_fields
    ]
    words = {
        word.lstrip("-").replace("-", "_") for param in params for word in (param.name or "", *param.opts)
    }
    assert {"help", *words, *(key for key in FILE_KEYS if "." not in key)} == RESERVED


def test_a_parameter_with_the_name_of_an_option_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("step_things.py").write_text(CODE.replace("bend", "steps"))
    try:
        result = CliRunner().invoke(main, ["find-lr", "--use", "step_things", "--steps", "20"])
    finally:
        kept._take_out("step_things")
    message = (
        "activation 'bent' has a parameter steps, which lab's commands take for something else; rename it"
    )
    assert (result.exit_code, result.stderr) == (2, f"Error: {message}\n")


@pytest.mark.usefixtures("_installed")
def test_a_config_knows_what_is_installed_and_a_study_may_use_it() -> None:
    config = parse_config({"activation": "bent", "bend": 0.7})
    assert (config.own_values(), config.use) == ((("bend", 0.7),), ("bent_things",))
    brought = plugins.records(config.use)
    kept._take_out("bent_things")
    with plugins.installed(brought, allowed=False):
        assert parse_config(config.as_values()) == config
    assert parse_config(config.as_values()) == config  # of a package, it stays


@pytest.mark.usefixtures("_installed")
def test_what_is_installed_needs_no_use() -> None:
    shown = " ".join(CliRunner().invoke(main, ["train", "--help"]).stdout.split())
    assert "[known: bent, celu," in shown
    assert "--bend VALUE [default: 0.5] [of activation 'bent']" in shown
    result = CliRunner().invoke(main, ["train", "--activation", "bent", "--bend", "high"])
    assert result.stderr == "Error: bend: must be a valid number, but got 'high'\n"


@pytest.mark.parametrize(
    ("option", "setting"), [("learning-rate", "lr"), ("max_epochs", "epochs"), ("model", "architecture")]
)
@pytest.mark.parametrize("command", ["train", "find-lr"])
def test_what_other_tools_call_a_setting_is_suggested(command: str, option: str, setting: str) -> None:
    result = CliRunner().invoke(main, [command, f"--{option}", "0.1"])
    assert result.exit_code == 2
    assert f"No such option '--{option.replace('_', '-')}'. Did you mean '--{setting}'?" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["base.yaml", "--nesterov"],
        ["--nesterov", "base.yaml"],
        ["--eval_test_every_epoch", "base.yaml", "--conv-bias"],
    ],
)
def test_an_option_without_a_value_leaves_the_file_alone(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base.yaml").write_text("optimizer: nothing")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["find-lr", *args])
    assert result.stderr.startswith("Error: base.yaml:1: optimizer: Unknown optimizer 'nothing'")
