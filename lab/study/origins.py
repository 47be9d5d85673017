"""Checks, before any compute is used, that cells fit the trained models that they start from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from lab.config import Grid, TrialConfig
from lab.data import DataInfo, describe
from lab.errors import ConfigError, Fault
from lab.models import skeleton
from lab.restore import find_run, restore_config
from lab.tracking import Tracker
from lab.training import fitting_weights

__all__ = ["check_origin", "check_stored_origins", "trained_configs"]


def check_origin(config: TrialConfig, info: DataInfo, sources: Iterable[TrialConfig]) -> None:
    """Check that the weights of each of `sources`, from which `config` may start, fit its model.

    Raises:
        ConfigError: some do not; names the first layer that differs, and both shapes.
    """
    for source in sources:
        same = (source.dataset, source.classes) == (config.dataset, config.classes)
        theirs = _weights(source.model_copy(update={"freeze": "none"}), describe(source))
        model = skeleton(config, info.shape, len(info.classes))
        fitting_weights(model, theirs, new_head=not same)


def trained_configs(grids: Iterable[Grid]) -> Callable[[str | None], list[TrialConfig]]:
    """Return a function that finds the configs that `best:STUDY` may stand for, if STUDY is one of `grids`."""
    by_name = {f"best:{grid.name}": grid for grid in grids}

    @functools.cache
    def find(origin: str | None) -> list[TrialConfig]:
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
        source = restore_config(tracker, find_run(tracker, origin, for_grid=True))
        for config in beginning:
            try:
                check_origin(config, describe(config), [source])
            except ConfigError as error:
                faults = [Fault(f"{fault.message} ({origin})", fault.key) for fault in error.faults]
                raise ConfigError(faults) from None


def _different_models(grid: Grid) -> list[TrialConfig]:
    """Return one config for each different model of a grid."""
    configs = (grid.config(point) for point in grid.space if grid.excluded(point) is None)
    return list({_shapes(config): config for config in configs}.values())


def _shapes(config: TrialConfig) -> tuple[object, ...]:
    weights = _weights(config, describe(config))
    return tuple((name, tuple(tensor.shape)) for name, tensor in weights.items())


def _weights(config: TrialConfig, info: DataInfo) -> Mapping[str, Tensor]:
    return skeleton(config, info.shape, len(info.classes)).state_dict()
