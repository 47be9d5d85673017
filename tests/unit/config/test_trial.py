"""TrialConfig: identity, canonical values, presets."""

from __future__ import annotations

import json

import pytest

from lab.config import PRESETS, TrialConfig, as_text, check_value, field_kinds, parse_config
from lab.errors import ConfigError


def test_cell_hash_is_pinned():
    """Stored studies find their cells by it: a change here would train every cell again."""
    assert TrialConfig().cell_hash == "44136fa355b3678a"
    config = TrialConfig(preset="lenet", dataset="mnist", lr=0.01, seed=3)
    assert config.cell_hash == "1d8e14694c9fb366"


def test_where_it_runs_and_how_it_is_spelled_is_not_identity():
    plain = TrialConfig(optimizer="sgd", lr=0.1)
    assert plain.cell_hash == TrialConfig(optimizer="SGD", lr=1e-1, device="cuda", threads=3).cell_hash
    assert plain.cell_hash == TrialConfig(optimizer="sgd", lr=0.1, momentum=0.0, data_dir="/x").cell_hash
    assert plain.cell_hash != TrialConfig(optimizer="sgd", lr=0.1, momentum=0.9).cell_hash


def test_data_dir_is_identity_where_it_names_the_data():
    hashes = {TrialConfig(dataset="image_folder", data_dir=folder).cell_hash for folder in ("a", "b")}
    assert len(hashes) == 2


def test_a_preset_is_the_same_cell_as_its_values_spelled_out():
    assert TrialConfig(preset="conv3").cell_hash == TrialConfig(**PRESETS["conv3"]).cell_hash


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_resolve(preset):
    config = TrialConfig(preset=preset)
    for name, value in PRESETS[preset].items():
        assert as_text(getattr(config, name)) == as_text(check_value(name, value))


def test_own_values_lie_above_a_preset():
    assert TrialConfig(preset="lenet", lr=0.5).lr == 0.5


@pytest.mark.parametrize(
    ("dense", "given", "same"),
    [
        ((), (0.2,), 0.2),
        ((8,), (0.0, 0.2), 0.2),
        ((8, 8), (0.0, 0.2, 0.2), 0.2),
        ((8, 8), (0.0, 0.0, 0.0), 0.0),
        ((8, 8), (0.2, 0.2, 0.2), (0.2, 0.2, 0.2)),
    ],
)
def test_dropouts_that_mean_the_same_are_the_same(dense, given, same):
    assert TrialConfig(dense=dense, dropout=given).dropout == same


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("activation", "Leaky ReLU", "leaky_relu"),
        ("filters", [6, 16], (6, 16)),
        ("lr", 1, 1.0),
        ("patience", "none", None),
        ("dense", "none", ()),
        ("norm", "none", "none"),
        ("kernel_size", [3, 3], (3, 3)),
        ("momentum", 0.9, 0.9),
        ("augment", ["Random-Crop"], ("random_crop",)),
    ],
)
def test_check_value_gives_the_canonical_form(name, raw, value):
    assert check_value(name, raw) == value


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("lr", -1, "lr: must be greater than 0, but got -1"),
        ("lr", float("nan"), "must be a finite number"),
        ("epochs", True, "must be a valid integer, but got True"),
        ("epochs", 3.0, "must be a valid integer, but got 3.0"),
        ("activation", "reluu", "Unknown activation 'reluu'. Did you mean 'relu'"),
        ("preset", "lenett", "Unknown preset 'lenett'. Did you mean 'lenet'"),
        ("learning", 1, "learning: unknown key"),
        ("lr", list(range(200)), "…"),
    ],
)
def test_check_value_refuses(name, raw, message):
    with pytest.raises(ConfigError, match=message):
        check_value(name, raw)


def test_check_value_looks_at_nothing_else():
    assert check_value("nesterov", True) is True  # alone, it would contradict momentum's default


def test_parse_config_tells_all_faults():
    with pytest.raises(ConfigError, match=r"base\.lr: must be greater than 0") as caught:
        parse_config({"lr": 0, "epoch": 1, "depth": "x"}, key="base", file="f.yaml")
    assert {fault.key for fault in caught.value.faults} == {"base.lr", "base.epoch", "base.depth"}
    assert "Did you mean 'epochs'?" in str(caught.value)


def test_field_kinds():
    assert field_kinds("kernel_size") == {int, tuple}
    assert field_kinds("patience") == {int, type(None)}
    assert field_kinds("pool_type") == {str}
    assert field_kinds("nothing") == frozenset()


@pytest.mark.parametrize("config", [TrialConfig(), TrialConfig(patience=None), TrialConfig(optimizer="sgd")])
def test_values_are_read_back(config: TrialConfig) -> None:
    assert parse_config(json.loads(json.dumps(config.as_values()))) == config
    assert "momentum" not in TrialConfig().as_values()
