"""What differs between two runs: settings, code, data, versions and machine, and results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lab.config import setting_names
from lab.config.trial import NOT_IDENTITY
from lab.tracking import RunRecord, Tracker
from lab.tracking.tags import Tag

__all__ = ["RunDifference", "run_difference"]

Pair = tuple[str, str]

_VERSIONS: Final = {
    "lab": Tag.VERSION,
    "python": Tag.PYTHON,
    "torch": Tag.TORCH,
    "torchvision": Tag.TORCHVISION,
    "mlflow": Tag.MLFLOW,
}
_MACHINE: Final = {"host": Tag.HOST, "cpu": Tag.CPU, "device": Tag.DEVICE, "threads": Tag.THREADS}
_CODE: Final = ("code_digest", "use")
_DATA: Final = frozenset({"dataset", "data_dir", "data_digest"})
_SYSTEM = "system/"


@dataclass(frozen=True)
class RunDifference:
    """What differs between the runs A and B: in each group the two values by name, `–` for one that is missing.

    Attributes:
        a: id of A.
        b: id of B.
        settings: of the config, and the labels of variants.
        code: the commit of lab, and the digest of the plug-ins.
        data: the data set, its folder, the number of images and the digest of all that was read.
        versions: of Python, lab and the libraries that compute.
        machine: where it was trained.
        metrics: their last values.
        outcome: how they ended.
        same: number of settings that do not differ.
    """

    a: str
    b: str
    settings: Mapping[str, Pair]
    code: Mapping[str, Pair]
    data: Mapping[str, Pair]
    versions: Mapping[str, Pair]
    machine: Mapping[str, Pair]
    metrics: Mapping[str, tuple[float | None, float | None]]
    outcome: Mapping[str, Pair]
    same: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing that decides the numbers differs: the results should be the same."""
        return not (self.settings or self.code or self.data or self.versions)


def run_difference(tracker: Tracker, a: str, b: str) -> RunDifference:
    """Return what differs between the runs with the ids `a` and `b`.

    Raises:
        TrackingError: there is no such run, or the store fails.
    """
    first, second = tracker.record(a), tracker.record(b)
    apart = {*_CODE, *_DATA}
    settings = [name for name in _names(first.params, second.params) if name not in apart]
    different = _different(first.params, second.params, settings)
    return RunDifference(
        a=a,
        b=b,
        settings=different,
        code=_different(_code(first), _code(second)),
        data=_different(_data(tracker, first), _data(tracker, second)),
        versions=_different(_tags(first, _VERSIONS), _tags(second, _VERSIONS)),
        machine=_different(_tags(first, _MACHINE), _tags(second, _MACHINE)),
        metrics=_different_metrics(first, second),
        outcome=_different(_tags(first, {"outcome": Tag.OUTCOME}), _tags(second, {"outcome": Tag.OUTCOME})),
        same=len(settings) - len(different),
    )


def _names(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Return the params that either has, those that decide the results first, in the order of the settings."""
    known = setting_names()
    order = (*(name for name in known if name not in NOT_IDENTITY), *sorted({*a, *b} - {*known}), *known)
    return [name for name in dict.fromkeys(order) if name in a or name in b]


def _different(
    a: Mapping[str, str], b: Mapping[str, str], names: Iterable[str] | None = None
) -> dict[str, Pair]:
    chosen = dict.fromkeys((*a, *b)) if names is None else names
    return {name: (a.get(name, "–"), b.get(name, "–")) for name in chosen if a.get(name) != b.get(name)}


def _different_metrics(a: RunRecord, b: RunRecord) -> dict[str, tuple[float | None, float | None]]:
    names = sorted(name for name in {*a.metrics, *b.metrics} if not name.startswith(_SYSTEM))
    pairs = {name: (a.metrics.get(name), b.metrics.get(name)) for name in names}
    return {
        name: (one, other) for name, (one, other) in pairs.items() if repr(one) != repr(other)
    }  # NaN is NaN


def _code(record: RunRecord) -> dict[str, str]:
    return _tags(record, {"commit of lab": Tag.COMMIT}) | _params(record, _CODE)


def _data(tracker: Tracker, record: RunRecord) -> dict[str, str]:
    digests = {f"digest of {name}": digest for name, digest in tracker.dataset_digests(record.run_id)}
    return _params(record, sorted(_DATA)) | _tags(record, {"images": Tag.IMAGES}) | digests


def _params(record: RunRecord, names: Iterable[str]) -> dict[str, str]:
    return {name: record.params[name] for name in names if name in record.params}


def _tags(record: RunRecord, names: Mapping[str, str]) -> dict[str, str]:
    return {name: record.tags[tag] for name, tag in names.items() if tag in record.tags}
