"""Checks, before any compute is used, that cells fit the trained models that they start from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from lab.config import Grid, TrialConfig
from lab.data import DataInfo, describe
from lab.errors import ConfigError, Fault
from lab.models import skeleton
from lab.restore import find_run, restore_config, trained_on
from lab.tracking import Tracker
from lab.training import fitting_weights

__all__ = ["check_origin", "check_stored_origins", "trained_models"]


Source = tuple[TrialConfig, DataInfo]  # of a trained model: its config, and what it was trained on


def check_origin(config: TrialConfig, info: DataInfo, sources: Iterable[Source]) -> None:
    """Check that the weights of each of `sources`, from which `config` may start, fit its model.

    Raises:
        ConfigError: some do not; names the first layer that differs, and both shapes.
    """
    for source, theirs in sources:
        weights = _weights(source.model_copy(update={"freeze": "none"}), theirs)
        model = skeleton(config, info.shape, len(info.classes))
        fitting_weights(model, weights, new_head=theirs.classes != info.classes)


def trained_models(grids: Iterable[Grid]) -> Callable[[str | None], list[Source]]:
    """Return a function that finds the models that `best:STUDY` may stand for, if STUDY is one of `grids`."""
    by_name = {f"best:{grid.name}": grid for grid in grids}

    @functools.cache
    def find(origin: str | None) -> list[Source]:
        grid = by_name.get(origin or "")
        return [] if grid is None else _different_models(grid)

    return find


def check_stored_origins(configs: Iterable[TrialConfig], needed: Iterable[Grid], tracker: Tracker) -> None:
    """Check the models that `configs` start from, except those that a study of `needed` will train first.

    Raises:
        TrackingError: a run, model or study does not exist.
        ConfigError: a model does not fit.
    """
    coming = {f"best:{grid.name}" for grid in needed}
    by_origin: dict[str, list[TrialConfig]] = {}
    for config in configs:
        if config.init_from is not None and config.init_from not in coming:
            by_origin.setdefault(config.init_from, []).append(config)
    for origin, beginning in by_origin.items():
        run_id = find_run(tracker, origin, for_grid=True)
        source = restore_config(tracker, run_id)
        info = trained_on(tracker, run_id, source)
        for config in beginning:
            try:
                check_origin(config, describe(config), [(source, info)])
            except ConfigError as error:
                faults = [Fault(f"{fault.message} ({origin})", fault.key) for fault in error.faults]
                raise ConfigError(faults) from None


def _different_models(grid: Grid) -> list[Source]:
    """Return one source for each different model of a grid."""
    configs = [grid.config(point) for point in grid.space if grid.excluded(point) is None]
    sources = [(config, describe(config)) for config in configs]
    return list({_kind(*source): source for source in sources}.values())


def _kind(config: TrialConfig, info: DataInfo) -> tuple[object, ...]:
    weights = _weights(config, info)
    return info.classes, tuple((name, tuple(tensor.shape)) for name, tensor in weights.items())


def _weights(config: TrialConfig, info: DataInfo) -> Mapping[str, Tensor]:
    return skeleton(config, info.shape, len(info.classes)).state_dict()
