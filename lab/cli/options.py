"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic_core import PydanticUndefined

from lab import engines, study, tracking
from lab.config import (
    TrialConfig,
    as_text,
    field_kinds,
    is_settable,
    load_grid,
    load_plugins,
    read_yaml,
    takes_text,
)
from lab.config import parse_overrides as parse_settings
from lab.errors import ConfigError, LabError
from lab.places import sqlite_address
from lab.plugins import trusted
from lab.server_file import SERVER_FILE, check_answers, read_server_file

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from lab.config import Grid
    from lab.engines import Stores

__all__ = [
    "all_option",
    "cell_option",
    "complete_study",
    "config_options",
    "format_option",
    "grid_from",
    "only_option",
    "overrides_option",
    "parse_only",
    "parse_overrides",
    "run_or_study_argument",
    "setting_option",
    "store_options",
    "stores_from",
    "study_argument",
]

Command = TypeVar("Command", bound=Callable[..., Any])

_HOME = Path(".lab")
_SERVER = "lab.server"  # in the context: the file that `--server` names


def store_options(command: Command) -> Command:
    """Add `--tracking-uri` and `--storage`; and `--server`, which `stores_from` finds by itself."""
    command = click.option(
        "--server",
        envvar="LAB_SERVER",
        show_envvar=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_note_server,
        help="Use the stores of the `lab serve` that wrote FILE.  [default: .lab/server.json, if there is one]",
    )(command)
    command = click.option(
        "--storage",
        envvar="LAB_STORAGE",
        show_envvar=True,
        metavar="URL",
        help="Study database, e.g. postgresql://user@host/lab.  [default: the server's, or sqlite:///.lab/optuna.db]",
    )(command)
    return click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
        metavar="URL",
        help="MLflow server or database, e.g. http://127.0.0.1:5000.  "
        "[default: the server's, or sqlite:///.lab/mlflow.db]",
    )(command)


def _note_server(ctx: click.Context, _parameter: click.Parameter, file: Path | None) -> None:
    ctx.meta[_SERVER] = file


def study_argument(*, required: bool = True) -> Callable[[Command], Command]:
    """Return what adds the argument STUDY, as `name`; a shell completes it with the names in the database."""
    return click.argument(
        "name",
        metavar="STUDY" if required else "[STUDY]",
        required=required,
        shell_complete=complete_study,
    )


def run_or_study_argument(command: Command) -> Command:
    """Add the argument NAME, as `name`: a run or a study; a shell completes the latter."""
    return click.argument("name", metavar="NAME", shell_complete=complete_study)(command)


def cell_option(command: Command) -> Command:
    """Add `--cell`, as `cells`: some cells of a study, as `lab.study.find_cells` takes them."""
    return click.option(
        "--cell",
        "cells",
        multiple=True,
        metavar="SETTING=VALUE|HASH",
        help="Only cells with this value (or one of several: lr=0.1,0.3), or the cell whose hash begins with HASH. "
        "May be repeated: a cell must match all of them.",
    )(command)


def complete_study(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the studies in the database that begin with `incomplete`, for a shell to complete."""
    with ctx.scope(cleanup=False), suppress(LabError):
        stores = stores_from(ctx.params.get("tracking_uri"), ctx.params.get("storage"), only_look=True)
        return [name for name in study.study_names(stores.storage) if name.startswith(incomplete)]
    return []


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
    """Return the stores that the options name; if their databases were moved, so are the paths in them.

    A store that is not named is that of `--server`, then of the `lab serve` of this folder, then in `.lab`. Their
    passwords are put into the environment variables that MLflow and PostgreSQL read.

    Args:
        tracking_uri: of the tracking store, None if it is not named.
        storage: of the studies, None if it is not named.
        only_look: whether to leave the paths in a moved or copied database as they are, and not to check that a
            server answers.

    Raises:
        ConfigError: the server file cannot be read.
        ResourceError: the server is not running.
    """
    file = _server_file()
    if file is None or (tracking_uri and storage):
        stores = _stores(_HOME.resolve(), tracking_uri, storage)
    else:
        stores = _served(file, tracking_uri, storage, check=not only_look)
    if not only_look:
        happened = tracking.follow(stores.tracking_uri, stores.artifact_dir, stores.journal_dir)
        if happened:
            click.echo(happened, err=True)
    return stores


def _server_file() -> Path | None:
    """Return the file that `--server` names, or the one in `.lab`, if there is one."""
    context = click.get_current_context(silent=True)
    named: Path | None = context.meta.get(_SERVER) if context else None
    own = _HOME / SERVER_FILE
    return named or (own if own.exists() else None)


def _served(file: Path, tracking_uri: str | None, storage: str | None, *, check: bool) -> Stores:
    """Return stores of a server; checkpoints and journals are next to its file if that is in a `.lab`."""
    server = read_server_file(file)
    if check:
        check_answers(file, server)
    server.use(tracking=not tracking_uri, storage=not storage)
    folder = file.resolve().parent
    home = folder if folder.name == _HOME.name else _HOME.resolve()
    return replace(
        _stores(home, tracking_uri or server.tracking_uri, storage or server.storage),
        server_file=file.resolve(),
    )


def _stores(home: Path, tracking_uri: str | None, storage: str | None) -> Stores:
    return engines.Stores(
        storage=storage or sqlite_address(home / "optuna.db"),
        tracking_uri=tracking_uri or sqlite_address(home / "mlflow.db"),
        artifact_dir=home / "artifacts",
        checkpoint_dir=home / "checkpoints",
        journal_dir=home / "journal",
    )


def config_options(command: Command) -> Command:
    """Add an option for every setting: `--batch-size` (`--batch_size` means the same).

    For a setting that is true or false, the bare option means true.
    """
    for name, field in reversed(TrialConfig.model_fields.items()):
        command = click.option(*_words(name), **_details(name, field))(command)
    return command


def setting_option(name: str, field: FieldInfo) -> click.Option:
    """Return the option for a setting."""
    return click.Option(_words(name), **_details(name, field))


def _words(name: str) -> list[str]:
    return [f"--{name.replace('_', '-')}", name]


def _details(name: str, field: FieldInfo) -> dict[str, Any]:
    default = (
        "" if field.default in (None, (), PydanticUndefined) else f"  [default: {as_text(field.default)}]"
    )
    text = " ".join((field.description or "").split()) + default
    flag: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if bool in field_kinds(name) else {}
    return {"metavar": "VALUE", "help": text, **flag}


def grid_from(file: Path, overrides: tuple[str, ...], only: tuple[str, ...]) -> Grid:
    """Return the grid of a file; its plug-ins are loaded first, as `--set` may give settings of theirs.

    Raises:
        ConfigError: as `parse_overrides`, `parse_only` and `load_grid`.
    """
    with trusted(file.parent):
        load_plugins(read_yaml(file))
        return load_grid(file, parse_overrides(overrides), parse_only(only))


def overrides_option(command: Command) -> Command:
    """Add `--set key=value`, which overrides settings of a grid file's base, and some of the file's keys."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a setting of the grid's base, e.g. --set epochs=3, or the grid's name, repeats, max_retries, "
        "max_failures, priority, gpu_memory or budget.trials (.seconds, .epochs). May be repeated. dataset and its "
        "options, epochs, device and threads also apply to the studies that GRID needs; `lab plan` shows them.",
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
    """Return the texts of `--only key=values` options, by key, as `load_grid` takes them.

    Raises:
        ConfigError: an option is not of that form.
    """
    found: dict[str, list[str]] = {}
    for text in only:
        key, _, values = text.partition("=")
        if not (key.strip() and values.strip()):
            raise ConfigError(f"--only takes KEY=VALUES, e.g. --only lr=0.001,0.01, but got {text!r}")
        found.setdefault(key.strip(), []).append(values)
    return found


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
    """Split `a=1 b=2`: `mlflow run` accepts only one `-P set=…`. A path may itself have blanks and `=`."""
    parts = text.split()
    if len(parts) < 2 or not all("=" in part for part in parts):
        return [text]
    keys = [part.partition("=")[0].replace("-", "_") for part in parts]
    return [text] if takes_text(keys[0]) and not all(map(is_settable, keys)) else parts
