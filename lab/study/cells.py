"""Cells of a study, found by what a user typed: the start of a hash, or values of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.config import TrialConfig, as_text, parse_values
from lab.errors import ConfigError, StudyError
from lab.registry import suggest
from lab.study.record import TrialRecord

__all__ = ["find_cells"]

_MOST_VALUES = 10  # of a setting that are listed


def find_cells(newest: Mapping[str, TrialRecord], texts: Sequence[str], study: str) -> list[TrialRecord]:
    """Return the newest trials of the cells that a user has named.

    Args:
        newest: each cell's newest trial by cell hash.
        texts: hashes or beginnings of them, each of which names a cell; or `SETTING=VALUE,…`, all of which must hold.
        study: its name.

    Raises:
        ConfigError: both kinds are given, or there is no such setting.
        StudyError: there is no such cell.
    """
    settings = [text for text in texts if "=" in text]
    if settings and len(settings) < len(texts):
        raise ConfigError("--cell takes hashes of cells or SETTING=VALUE, not both at once")
    if not settings:
        return [newest[_whole(text, newest, study)] for text in dict.fromkeys(texts)]
    chosen = list(newest.values())
    for text in settings:
        name, _, values = text.partition("=")
        chosen = _having(chosen, name.strip().replace("-", "_"), values, study)
    return chosen


def _whole(text: str, newest: Mapping[str, TrialRecord], study: str) -> str:
    if text in newest:  # trials of a search have names that others begin with: `slot-1`, `slot-10`
        return text
    found = [cell for cell in newest if cell.startswith(text)] if text else []
    if not found:
        raise StudyError(
            f"Study '{study}' has no cell {text!r}.{suggest(text, newest)} `lab plan GRID --format csv` lists them"
        )
    if len(found) > 1:
        raise StudyError(
            f"Study '{study}' has {len(found)} cells that begin with {text!r}; give more of the hash"
        )
    return found[0]


def _having(records: Sequence[TrialRecord], name: str, values: str, study: str) -> list[TrialRecord]:
    """Return the trials whose setting or variant `name` has one of `values`, which commas separate."""
    texts = [(record, text) for record in records if (text := _text(record, name)) is not None]
    if not texts:
        known = {key for record in records for key in (*record.trial.params, *(record.config or {}))}
        raise ConfigError(
            f"--cell {name}: study '{study}' has no such setting.{suggest(name, sorted(known))}"
        )
    wanted = {_canonical(name, values), *(_canonical(name, value) for value in values.split(","))}
    found = [record for record, text in texts if text in wanted]
    if not found:
        there = sorted({text for _, text in texts})
        more = ", …" if len(there) > _MOST_VALUES else ""
        raise StudyError(
            f"Study '{study}' has no such cell with {name}={values}; {name} is {', '.join(there[:_MOST_VALUES])}{more}"
        )
    return found


def _text(record: TrialRecord, name: str) -> str | None:
    """Return a trial's value of a setting, or its label of variants, as text; None if it has neither."""
    if record.config is None:  # a search has not chosen it yet
        return None
    for values in (record.config, record.trial.params):
        if name in values:
            value = values[name]
            return as_text(tuple(value) if isinstance(value, list) else value)
    field = TrialConfig.model_fields.get(name)
    return None if field is None else as_text(field.default)


def _canonical(name: str, text: str) -> str:
    """Return a value as `as_text` writes it; unchanged if lab does not know the setting, or it does not take that."""
    try:
        return as_text(parse_values({name: text})[name])
    except (ConfigError, KeyError):
        return text.strip()
