from __future__ import annotations

import pytest

from lab import registry
from lab.config import TrialConfig
from lab.errors import ConfigError
from lab.registry import Registry

REGISTRIES = [value for value in vars(registry).values() if isinstance(value, Registry)]


@pytest.mark.parametrize("known", REGISTRIES, ids=lambda known: known.kind)
def test_every_entry_loads_and_takes_known_options(known: Registry) -> None:
    assert len(known) > 0
    for name in known:
        assert known[name].load() is not None
        assert set(known[name].options) <= set(TrialConfig.model_fields)


@pytest.mark.parametrize("spelling", ["leaky_relu", "leaky relu", "Leaky-ReLU", "LeakyReLU", "LEAKY_RELU"])
def test_spelling_does_not_matter(spelling: str) -> None:
    assert registry.activations.canonical(spelling) == "leaky_relu"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"Unknown activation 'geluu'\. Did you mean 'gelu'\? Known: celu, elu"
    ):
        registry.activations.canonical("geluu")


def test_a_plug_in_registers_the_object_itself() -> None:
    known = Registry("colour")
    known.register("red", target := object())
    assert known["Red"].load() is target


def test_a_name_is_taken_once() -> None:
    known = Registry("colour")
    known.register("dark_red", 1)
    with pytest.raises(ValueError, match="colour 'DarkRed' is already registered"):
        known.register("DarkRed", 2)


def test_what_a_program_added_can_be_added_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.added() == []
    monkeypatch.setattr(registry.losses, "_entries", dict(registry.losses._entries))
    monkeypatch.setattr(registry.metrics, "_entries", dict(registry.metrics._entries))
    registry.losses.register("mine", target := object(), ["label_smoothing"])
    (addition,) = registry.added()
    assert (addition.kind, addition.entry.name, addition.entry.options) == (
        "loss",
        "mine",
        ("label_smoothing",),
    )
    registry.losses._entries.pop("mine")
    for _ in range(2):
        registry.add([addition])
    assert registry.losses["mine"].load() is target
    registry.metrics.register("mine", target, higher_is_better=False, bounds=(0.0, 2.0))
    entry, additions = registry.metrics["mine"], registry.added()
    registry.metrics._entries.pop("mine")
    registry.add(additions)
    assert registry.metrics["mine"] == entry
