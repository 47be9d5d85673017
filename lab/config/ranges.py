"""`Range`: the interval from which a search chooses the value of a setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from lab.config.foreign import MEANT_BY
from lab.config.kinds import field_kinds
from lab.config.trial import check_value
from lab.errors import ConfigError
from lab.registry import suggest

__all__ = ["RANGE_KEYS", "Range", "describes_values", "read_range"]

#: The keys of a range.
RANGE_KEYS: Final = ("low", "high", "log", "step")

Problem = tuple[str, str]  # a key of the range ("" for all of it), and what is wrong there


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, all of the type of these two; in equal steps or on a log scale."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def __str__(self) -> str:
        notes = [*(["log"] if self.log else []), *([f"step {self.step}"] if self.step else [])]
        return f"{self.low} to {self.high}" + (f" ({', '.join(notes)})" if notes else "")

    @property
    def ends(self) -> tuple[int | float, ...]:
        """The lowest and the highest number, once if they are equal."""
        return (self.low,) if self.low == self.high else (self.low, self.high)

    def values(self) -> list[int | float] | None:
        """Return all its numbers, or None if they are uncountable: floats without steps, or a log scale."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        step = self.step or (1 if whole and not self.log else None)
        if step is None:
            return None
        count = round((self.high - self.low) / step) + 1
        # in decimal, because 0.1 + 2 * 0.1 is not 0.3
        exact_low, exact_step = Decimal(str(self.low)), Decimal(str(step))
        return [type(self.low)(exact_low + number * exact_step) for number in range(count)]

    def at(self, share: float) -> int | float:
        """Return the number that is a share (from 0 to 1) of the way from `low` to `high`, on the range's own scale."""
        if self.log:
            number = self.low * (self.high / self.low) ** share
        elif (values := self.values()) is not None:
            number = values[min(int(share * len(values)), len(values) - 1)]
        else:
            number = self.low + share * (self.high - self.low)
        whole = isinstance(self.low, int)
        return min(max(round(number) if whole else float(number), self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Return whether `value` is a number from `low` to `high`, and on a step if there are steps."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(self.low, int) and not isinstance(value, int):
            return False
        return self.low <= value <= self.high and (self.step is None or _on_step(self.low, value, self.step))


def describes_values(raw: Mapping[str, Any]) -> bool:
    """Return whether a mapping describes a range or choices, in lab's terms or another tool's, rather than variants."""
    known = {*RANGE_KEYS, "when", "choices", *MEANT_BY}
    return raw.keys() <= known and any(not isinstance(value, dict | None) for value in raw.values())


def read_range(name: str, raw: Mapping[str, Any]) -> tuple[Range | None, list[Problem]]:
    """Return the range of the setting `name` that `raw` describes, or None and what is wrong with it."""
    kinds = field_kinds(name)
    if not kinds & {int, float}:
        message = (
            f"{name} does not take numbers, so it cannot have a range; list its values, as in {name}: [a, b]"
        )
        return None, [("", message)]
    number = float if float in kinds else int
    problems = _key_problems(raw) + _value_problems(name, raw, number)
    if problems:
        return None, problems
    low, high = number(raw["low"]), number(raw["high"])
    log, step = raw.get("log", False), raw.get("step")
    problems = _combined_problems(low, high, log=log, step=step)
    if problems:
        return None, problems
    return Range(low, high, log, None if step is None else number(step)), []


def _key_problems(raw: Mapping[str, Any]) -> list[Problem]:
    """Return which keys are unknown, and which are missing."""
    problems: list[Problem] = [
        (key, f"unknown key.{_meant(key)} A range has the keys low, high, log, step and when")
        for key in raw
        if key not in (*RANGE_KEYS, "when")
    ]
    said = {*raw, *(MEANT_BY.get(key, "") for key in raw)}
    return problems + [("", f"a range needs {key}") for key in ("low", "high") if key not in said]


def _value_problems(name: str, raw: Mapping[str, Any], number: type) -> list[Problem]:
    """Return which values are wrong by themselves."""
    problems: list[Problem] = []
    for key in ("low", "high"):
        if key in raw:
            problems += _end_problems(name, key, raw[key], number)
    log, step = raw.get("log", False), raw.get("step")
    if not isinstance(log, bool):
        problems.append(("log", f"must be true or false, but got {log!r}"))
    if step is not None:
        problems += _step_problems(step, number, log=log is True)
    return problems


def _combined_problems(low: float, high: float, *, log: bool, step: float | None) -> list[Problem]:
    """Return how values that are valid by themselves contradict each other."""
    if low > high:
        return [("low", f"low <= high must hold, but got low={low}, high={high}")]
    if log and low <= 0:
        return [("log", f"low > 0 must hold on a log scale, but got low={low}")]
    if step is not None and not _on_step(low, high, step):
        exact_low, exact_high, exact_step = (Decimal(str(value)) for value in (low, high, step))
        last = type(low)(exact_low + (exact_high - exact_low) // exact_step * exact_step)
        return [("high", f"steps of {step} from {low} do not reach {high} exactly; the last one is {last}")]
    return []


def _meant(key: str) -> str:
    meant = MEANT_BY.get(key)
    if meant == "log":
        return " Did you mean 'log: true'?"
    return f" Did you mean '{meant}'?" if meant else suggest(key, (*RANGE_KEYS, "when"))


def _end_problems(name: str, key: str, value: Any, number: type) -> list[Problem]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return [(key, f"must be a number, but got {value!r}")]
    if number is int and not isinstance(value, int):
        return [(key, f"must be a whole number, because {name} is one, but got {value!r}")]
    try:
        check_value(name, value)
    except ConfigError as error:
        return [(key, fault.message) for fault in error.faults]
    return []


def _step_problems(step: Any, number: type, *, log: bool) -> list[Problem]:
    rule = "a whole number" if number is int else "a number"
    accepted = int if number is int else (int, float)
    if isinstance(step, bool) or not isinstance(step, accepted) or not math.isfinite(step) or step <= 0:
        return [("step", f"must be {rule} above 0, but got {step!r}")]
    return [("step", "a log scale has no steps; leave out one of the two")] if log else []


def _on_step(low: float, value: float, step: float) -> bool:
    steps = (value - low) / step
    return math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9)
