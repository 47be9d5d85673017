"""Options that several commands share, under the same names everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lab.config import TrialConfig, field_kinds
from lab.config import parse_overrides as parse_settings
from lab.errors import ConfigError

if TYPE_CHECKING:
    from lab.engines import Stores

__all__ = [
    "all_option",
    "config_options",
    "only_option",
    "overrides_option",
    "parse_only",
    "parse_overrides",
    "store_options",
    "stores_from",
]

Command = TypeVar("Command", bound=Callable[..., Any])

_HOME = Path(".lab")


def store_options(command: Command) -> Command:
    """Add `--tracking-uri` and `--storage`."""
    command = click.option(
        "--storage",
        envvar="LAB_STORAGE",
        show_envvar=True,
        metavar="URL",
        help="Database of the studies, e.g. postgresql://user@host/lab.  [default: sqlite:///.lab/optuna.db]",
    )(command)
    return click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
        metavar="URL",
        help="MLflow server or database, e.g. http://127.0.0.1:5000.  [default: sqlite:///.lab/mlflow.db]",
    )(command)


def stores_from(tracking_uri: str | None, storage: str | None, *, only_look: bool = False) -> Stores:
    """Return the stores that the two options name, their files where the databases lie now.

    Args:
        tracking_uri: of the tracking store; the one in `.lab` if None.
        storage: of the studies; the one in `.lab` if None.
        only_look: whether the files stay where they are said to be, though the databases were moved or copied.
    """
    from lab.tracking import follow

    stores = _stores(tracking_uri, storage)
    if not only_look:
        happened = follow(stores.tracking_uri, stores.artifact_dir, stores.journal_dir)
        if happened:
            click.echo(happened, err=True)
    return stores


def _stores(tracking_uri: str | None, storage: str | None) -> Stores:
    from lab.engines import Stores

    home = _HOME.resolve()
    return Stores(
        storage=storage or f"sqlite:///{home / 'optuna.db'}",
        tracking_uri=tracking_uri or f"sqlite:///{home / 'mlflow.db'}",
        artifact_dir=home / "artifacts",
        checkpoint_dir=home / "checkpoints",
        journal_dir=home / "journal",
    )


def config_options(command: Command) -> Command:
    """Add an option for every config field: `--batch-size` (`lab` takes `--batch_size` for the same).

    Of one that is true or false the bare option means true.
    """
    for name, field in reversed(TrialConfig.model_fields.items()):
        default = "" if field.default in (None, ()) else f"  [default: {field.default}]"
        text = " ".join((field.description or "").split()) + default
        flag: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if bool in field_kinds(name) else {}
        option = f"--{name.replace('_', '-')}"
        command = click.option(option, name, metavar="VALUE", help=text, **flag)(command)
    return command


def overrides_option(command: Command) -> Command:
    """Add `--set key=value`, which replaces values of a grid file's base, and some of its own keys."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Replace a value of the grid's base, e.g. --set epochs=3, or its name, repeats, max_retries, gpu_memory "
        "or budget.trials (.seconds, .epochs). May be given several times. dataset, data_dir, image_size, epochs, "
        "device and threads hold for the studies that GRID needs, too; `lab plan` shows it.",
    )(command)


def only_option(command: Command) -> Command:
    """Add `--only key=values`, which keeps those cells of a grid."""
    return click.option(
        "--only",
        "only",
        multiple=True,
        metavar="KEY=VALUES",
        help="Only the cells with one of these values, e.g. --only optimizer=adam,sgd. May be given several times.",
    )(command)


def all_option(command: Command) -> Command:
    """Add `--all`, as `everything`: also what is not of a study's newest file."""
    return click.option(
        "--all",
        "everything",
        is_flag=True,
        help="Also trials of earlier files and other settings, with a column for each setting that differs.",
    )(command)


def parse_only(only: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the texts of the values that `--only key=values` options name, by key.

    Raises:
        ConfigError: not of that form.
    """
    found: dict[str, list[str]] = {}
    for text in only:
        key, _, values = text.partition("=")
        if not (key.strip() and values.strip()):
            raise ConfigError(f"--only takes KEY=VALUES, e.g. --only lr=0.001,0.01, but got {text!r}")
        name = key.strip()
        found.setdefault(name, []).extend(_values(name, values))
    return found


def _values(name: str, text: str) -> list[str]:
    """Return the values of one `--only`: separated by commas, or by semicolons where a value is itself a list."""
    lists = field_kinds(name) - {type(None)} == {tuple}
    return [part.strip() for part in text.split(";" if lists or ";" in text else ",")]


def parse_overrides(overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return what `--set key=value` options put over a grid file.

    Raises:
        ConfigError: not of that form, an unknown key or a wrong value.
    """
    texts = [part for text in overrides for part in _parts(text)]
    pairs = [text.partition("=") for text in texts]
    wrong = [text for text, (_, equals, _) in zip(texts, pairs, strict=True) if not equals]
    if wrong:
        raise ConfigError(f"--set takes KEY=VALUE, e.g. --set epochs=3, but got {wrong[0]!r}")
    return parse_settings({key.strip().replace("-", "_"): value for key, _, value in pairs})


def _parts(text: str) -> list[str]:
    """Return `a=1 b=2` as two: `mlflow run` takes only one `-P set=…`."""
    parts = text.split()
    return parts if len(parts) > 1 and all("=" in part for part in parts) else [text]
