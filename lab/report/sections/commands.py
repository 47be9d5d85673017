"""The command that trains each row of a leaderboard again."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.config import TrialConfig, as_text, parse_config, parse_values, setting_names
from lab.config.trial import NOT_IDENTITY
from lab.errors import ConfigError
from lab.report.sections.source import Source
from lab.report.settings import params_of
from lab.report.trials import setting_of

__all__ = ["Command", "commands"]

# filled in by lab from the files that are there
_OF_THE_FILES = frozenset({"code_digest", "data_digest", "weights_digest"})
_PLACES = frozenset({"data_dir", "weights"})  # on the machine that the run was on


@dataclass(frozen=True)
class Command:
    """The command that trains the best repeat of a row: its words, each quoted for a shell."""

    rank: int
    name: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole command."""
        return " ".join(self.words)


def commands(source: Source) -> tuple[Command, ...]:
    """Return the command of each row of the leaderboard of cells; of a path it has only the last part.

    Runs of other programs have none.
    """
    if source.trials.attrs["imported"]:  # lab cannot train what another program did
        return ()
    runs = {run["run_id"]: params_of(run) for run in source.runs.to_dict("records")}
    rows = zip(source.cells["rank"], source.cells["name"], source.cells["run_id"], strict=True)
    varied = {setting_of(column) for column in source.dimensions}
    spare: set[str] = set()
    found = []
    for rank, name, run_id in rows:
        settings = {key: text for key, text in runs[run_id].items() if _is_told(key, text)}
        needed = _needed(settings, spare, varied)
        spare |= settings.keys() - needed.keys()
        found.append(Command(int(rank), str(name), _words(needed)))
    return tuple(found)


def _words(settings: Mapping[str, str]) -> tuple[str, ...]:
    shown = {
        name: f"path/to/{Path(text).name}" if name in _PLACES else text for name, text in settings.items()
    }
    flags = (f"--{name.replace('_', '-')}={text}" for name, text in shown.items())
    return "lab", "train", *map(shlex.quote, flags)


def _is_told(name: str, text: str) -> bool:
    if name == "use":
        return text != as_text(())
    if name not in setting_names() or name in NOT_IDENTITY | _OF_THE_FILES:
        return False
    field = TrialConfig.model_fields.get(name)
    return field is None or text != as_text(field.default)


def _needed(settings: dict[str, str], spare: Collection[str], varied: Collection[str]) -> dict[str, str]:
    """Return the settings that make the same trial as all of them, without those that lab works out from the others.

    Args:
        settings: as texts, by name.
        spare: those that were not needed for other trials, which are tried first.
        varied: those that are left out last.
    """
    whole = _identity(settings)
    if whole is None:  # a plug-in's, which this process has not loaded
        return settings
    shorter = {name: text for name, text in settings.items() if name not in spare}
    if spare and _identity(shorter) == whole:
        return shorter
    kept = dict(settings)
    for name in sorted(settings, key=lambda name: name in varied):
        tried = {other: text for other, text in kept.items() if other != name}
        kept = tried if _identity(tried) == whole else kept
    return kept


def _identity(settings: Mapping[str, str]) -> str | None:
    try:
        return parse_config(parse_values(settings)).cell_hash
    except ConfigError:
        return None
