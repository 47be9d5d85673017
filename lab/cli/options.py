"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lab import engines, tracking
from lab.config import TrialConfig, field_kinds
from lab.config import parse_overrides as parse_settings
from lab.errors import ConfigError

if TYPE_CHECKING:
    from lab.engines import Stores

__all__ = [
    "all_option",
    "config_options",
    "format_option",
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
        help="Study database, e.g. postgresql://user@host/lab.  [default: sqlite:///.lab/optuna.db]",
    )(command)
    return click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
        metavar="URL",
        help="MLflow server or database, e.g. http://127.0.0.1:5000.  [default: sqlite:///.lab/mlflow.db]",
    )(command)


def format_option(*forms: str) -> Callable[[Command], Command]:
    """Return what adds `--format`, as the argument `form`; the first of `forms` is the default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="Output format.",
    )


def stores_from(tracking_uri: str | None, storage: str | None, *, only_look: bool = False) -> Stores:
    """Return the stores that the two options name; if their databases were moved, so are the paths in them.

    Args:
        tracking_uri: of the tracking store; the one in `.lab` if None.
        storage: of the studies; the one in `.lab` if None.
        only_look: whether to leave the paths in a moved or copied database as they are.
    """
    stores = _stores(tracking_uri, storage)
    if not only_look:
        happened = tracking.follow(stores.tracking_uri, stores.artifact_dir, stores.journal_dir)
        if happened:
            click.echo(happened, err=True)
    return stores


def _stores(tracking_uri: str | None, storage: str | None) -> Stores:
    home = _HOME.resolve()
    return engines.Stores(
        storage=storage or f"sqlite:///{home / 'optuna.db'}",
        tracking_uri=tracking_uri or f"sqlite:///{home / 'mlflow.db'}",
        artifact_dir=home / "artifacts",
        checkpoint_dir=home / "checkpoints",
        journal_dir=home / "journal",
    )


def config_options(command: Command) -> Command:
    """Add an option for every setting: `--batch-size` (`--batch_size` means the same).

    For a setting that is true or false, the bare option means true.
    """
    for name, field in reversed(TrialConfig.model_fields.items()):
        default = "" if field.default in (None, ()) else f"  [default: {field.default}]"
        text = " ".join((field.description or "").split()) + default
        flag: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if bool in field_kinds(name) else {}
        option = f"--{name.replace('_', '-')}"
        command = click.option(option, name, metavar="VALUE", help=text, **flag)(command)
    return command


def overrides_option(command: Command) -> Command:
    """Add `--set key=value`, which overrides settings of a grid file's base, and some of the file's keys."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a setting of the grid's base, e.g. --set epochs=3, or the grid's name, repeats, max_retries, "
        "gpu_memory or budget.trials (.seconds, .epochs). May be repeated. dataset, data_dir, image_size, epochs, "
        "device and threads also apply to the studies that GRID needs; `lab plan` shows them.",
    )(command)


def only_option(command: Command) -> Command:
    """Add `--only key=values`, which selects cells of a grid."""
    return click.option(
        "--only",
        "only",
        multiple=True,
        metavar="KEY=VALUES",
        help="Select the cells with one of these values, e.g. --only optimizer=adam,sgd. May be repeated.",
    )(command)


def all_option(command: Command) -> Command:
    """Add `--all`, as `everything`: include trials that the newest file of a study does not name."""
    return click.option(
        "--all",
        "everything",
        is_flag=True,
        help="Include trials from earlier files and with other settings; each setting that differs gets a column.",
    )(command)


def parse_only(only: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the values of `--only key=values` options as texts, by key.

    Raises:
        ConfigError: an option is not of that form.
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
    """Return the values of one `--only`, separated by commas, or by semicolons if the values are lists."""
    lists = field_kinds(name) - {type(None)} == {tuple}
    return [part.strip() for part in text.split(";" if lists or ";" in text else ",")]


def parse_overrides(overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of `--set key=value` options, by key.

    Raises:
        ConfigError: an option is not of that form, or has an unknown key or an invalid value.
    """
    texts = [part for text in overrides for part in _parts(text)]
    pairs = [text.partition("=") for text in texts]
    wrong = [text for text, (_, equals, _) in zip(texts, pairs, strict=True) if not equals]
    if wrong:
        raise ConfigError(f"--set takes KEY=VALUE, e.g. --set epochs=3, but got {wrong[0]!r}")
    return parse_settings({key.strip().replace("-", "_"): value for key, _, value in pairs})


def _parts(text: str) -> list[str]:
    """Split `a=1 b=2`: `mlflow run` accepts only one `-P set=…`."""
    parts = text.split()
    return parts if len(parts) > 1 and all("=" in part for part in parts) else [text]
