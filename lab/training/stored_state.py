"""Checks that a checkpoint's state can be a trainer's: a wrong value would otherwise fail only epochs later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["check_state"]

_KEYS = (
    *("cell", "epoch", "step", "under_way", "history", "step_history"),
    *("diverged_step", "losses", "patience", "cuda"),
)


def check_state(
    state: Mapping[str, Any],
    *,
    learner: Mapping[str, Any],
    schedule: Mapping[str, Any],
    between: bool,
) -> None:
    """Check a checkpoint's state against that of a new trainer.

    Args:
        state: of the checkpoint.
        learner: the state dict of the trainer's learner.
        schedule: the state dict of its schedule.
        between: whether the checkpoint was made between two batches of one optimizer step.

    Raises:
        ValueError: a value is missing, or has another type or shape; names it.
    """
    for key in _KEYS:
        _require(key in state, key)
    history, steps, patience = state["history"], state["step_history"], state["patience"]
    _require(isinstance(history, list) and all(map(_are_metrics, history)), "history")
    under_way = state["under_way"]
    _require(under_way is None or isinstance(under_way, dict), "under_way")
    begun = bool(history) or under_way is not None
    _require(type(state["epoch"]) is int and state["epoch"] == len(history) and begun, "epoch")
    _require(type(state["step"]) is int, "step")
    _require(isinstance(steps, dict) and all(type(step) is int for step in steps), "step_history")
    _require(all(map(_are_metrics, steps.values())), "step_history")
    _require(state["diverged_step"] is None or type(state["diverged_step"]) is int, "diverged_step")
    losses = state["losses"]
    _require(isinstance(losses, tuple | list) and len(losses) == 3 and all(map(_is_number, losses)), "losses")
    _check_patience(patience, state["epoch"])
    _check_weights(state.get("model"), learner["model"], "model")
    if patience["best_epoch"] is not None:
        _check_weights(state.get("best_weights"), learner["model"], "best_weights")
    _check_like(state.get("schedule"), schedule, "schedule")
    _require(_are_alike(state.get("scaler"), learner["scaler"]), "scaler")
    _check_average(state.get("average"), learner["average"])
    _check_gradients(state.get("gradients"), learner["model"], between)
    _check_optimizer(state.get("optimizer"), learner["optimizer"])


def _require(right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"the checkpoint's {what} is malformed")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _are_metrics(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(k, str) and _is_number(v) for k, v in found.items())


def _check_patience(found: Any, epochs: int) -> None:
    _require(isinstance(found, dict) and found.keys() == {"best_value", "best_epoch", "waited"}, "patience")
    value, epoch, waited = found["best_value"], found["best_epoch"], found["waited"]
    known = _is_number(value) and type(epoch) is int and 1 <= epoch <= epochs
    _require(known or (value is None and epoch is None), "patience")
    _require(type(waited) is int and 0 <= waited <= epochs, "patience")


def _check_weights(found: Any, own: Mapping[str, Tensor], what: str) -> None:
    _require(isinstance(found, dict) and found.keys() == own.keys(), what)
    for name, tensor in own.items():
        there = found[name]
        _require(isinstance(there, Tensor) and there.shape == tensor.shape, f"{what}.{name}")
        _require(there.dtype == tensor.dtype, f"{what}.{name}")


def _check_like(found: Any, own: Mapping[str, Any], what: str) -> None:
    """Check keys and types of values: a scheduler would accept anything as its attributes."""
    _require(isinstance(found, dict) and found.keys() == own.keys(), what)
    for key, value in own.items():
        _require(_are_alike(found[key], value), f"{what}.{key}")


def _are_alike(found: Any, own: Any) -> bool:
    """Whether two plain values, and everything in them, have the same types."""
    if _is_number(found) and _is_number(own):
        return True
    if type(found) is not type(own):
        return False
    if isinstance(own, dict):
        return found.keys() == own.keys() and all(_are_alike(found[key], own[key]) for key in own)
    if isinstance(own, list | tuple):
        return len(found) == len(own) and all(map(_are_alike, found, own))
    return True


def _check_average(found: Any, own: Mapping[str, Any] | None) -> None:
    if own is None:
        _require(found is None, "average")
        return
    _require(isinstance(found, dict) and found.keys() == own.keys(), "average")
    _require(type(found["begun"]) is bool, "average")
    _check_weights(found["model"], own["model"], "average")


def _check_gradients(found: Any, weights: Mapping[str, Tensor], between: bool) -> None:
    """Check gradients by the weights' names: checkpoints of earlier versions have none, nor any use for them."""
    _require((found is not None) is between, "gradients")
    if between:
        _require(isinstance(found, dict) and found.keys() <= weights.keys(), "gradients")
        _check_weights(found, {name: weights[name] for name in found}, "gradients")


def _check_optimizer(found: Any, own: Mapping[str, Any]) -> None:
    what = "optimizer"
    _require(isinstance(found, dict) and found.keys() == own.keys(), what)
    _require(isinstance(found["state"], dict) and isinstance(found["param_groups"], list), what)
    _require(len(found["param_groups"]) == len(own["param_groups"]), what)
    for group, mine in zip(found["param_groups"], own["param_groups"], strict=True):
        _require(isinstance(group, dict) and group.keys() == mine.keys(), what)
        _require(group["params"] == mine["params"], what)
        for key, value in mine.items():
            _require(_are_alike(group[key], value), f"{what}.{key}")
    for kept in found["state"].values():
        _require(isinstance(kept, dict), what)
        _require(all(v is None or isinstance(v, Tensor) or _is_number(v) for v in kept.values()), what)
