"""Config values from text."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.config import UNSET, TrialConfig, parse_value, parse_values
from lab.errors import ConfigError
from lab.registry import activations, augmentations, losses, optimizers, schedulers

SMALL = st.integers(1, 300)
SHARE = st.floats(0, 0.99)
WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789/_.-", min_size=5, max_size=12)


def _per_layer(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(value, st.lists(value, min_size=1, max_size=3))


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "dataset": st.sampled_from(["digits", "mnist", "image_folder", "synthetic"]),
    "data_dir": st.one_of(st.none(), WORD),
    "image_size": st.integers(4, 1024),
    "preset": st.sampled_from([None, "lenet", "conv3", "conv5", "cerberus"]),
    "augment": st.lists(st.sampled_from(sorted(augmentations)), max_size=3),
    "filters": st.lists(SMALL, min_size=1, max_size=3),
    "depth": st.integers(1, 3),
    "width": SMALL,
    "kernel_size": _per_layer(SMALL),
    "padding": _per_layer(st.integers(0, 9)),
    "pool": _per_layer(SMALL),
    "norm": st.sampled_from(["none", "batch"]),
    "activation": st.sampled_from(sorted(activations)),
    "dense": st.lists(SMALL, max_size=3),
    "dense_activation": st.sampled_from([None, "relu", "gelu"]),
    "dropout": _per_layer(SHARE),
    "epochs": st.integers(1, 10**9),
    "optimizer": st.sampled_from(sorted(optimizers)),
    "lr": st.floats(0, exclude_min=True, allow_infinity=False),
    "momentum": SHARE,
    "nesterov": st.booleans(),
    "weight_decay": st.floats(0, 1e10),
    "scheduler": st.sampled_from(sorted(schedulers)),
    "gamma": st.floats(math.nextafter(0, 1), 1),
    "loss": st.sampled_from(sorted(losses)),
    "patience": st.one_of(st.none(), SMALL),
    "seed": st.integers(0, 2**63 - 1),
    "eval_test_every_epoch": st.booleans(),
    "threads": st.one_of(st.none(), SMALL),
}


@st.composite
def configs(draw: st.DrawFn) -> TrialConfig:
    """Draw a config that resolves; values that contradict others are dropped."""
    values = draw(st.fixed_dictionaries({}, optional=FIELDS))
    while True:
        try:
            return TrialConfig(**values)
        except ConfigError as error:
            for fault in error.faults:
                if fault.key not in values:
                    values.pop("preset", None)
                    values.pop("filters", None)
                values.pop(fault.key, None)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-3", 0.001),
        ("lr", " 1E-3 ", 0.001),
        ("lr", ".001", 0.001),
        ("lr", "'0.001'", 0.001),
        ("epochs", "+3", 3),
        ("epochs", "1_000", 1000),
        ("activation", "'leaky relu'", "leaky relu"),
        ("activation", "\"'leaky relu'\"", "leaky relu"),
        ("activation", "", UNSET),
        ("activation", "''", UNSET),
        ("activation", "  ", UNSET),
        ("patience", "none", None),
        ("patience", "Null", None),
        ("norm", "none", "none"),
        ("dense", "none", ()),
        ("dense", "[]", ()),
        ("augment", "()", ()),
        ("dense", "120", (120,)),
        ("filters", "6,16", (6, 16)),
        ("filters", "[6, 16]", (6, 16)),
        ("filters", "'[6, 16]'", (6, 16)),
        ("filters", "6 16", (6, 16)),
        ("filters", "6,16,", (6, 16)),
        ("filters", "none", None),
        ("kernel_size", "3", 3),
        ("kernel_size", "[3]", (3,)),
        ("kernel_size", "3,5", (3, 5)),
        ("dropout", "0.2, 0", (0.2, 0)),
        ("augment", "random_crop,'horizontal flip'", ("random_crop", "horizontal flip")),
        ("use", "my things/nets.py", ("my things/nets.py",)),
        ("use", "nets, my things/losses.py", ("nets", "my things/losses.py")),
        ("nesterov", "1", True),
        ("nesterov", "yes", True),
        ("eval_test_every_epoch", "FALSE", False),
        ("eval_test_every_epoch", "0", False),
        ("data_dir", "007", "007"),
        ("device", "cuda:1", "cuda:1"),
        ("epochs", "many", "many"),
        ("epochs", "9" * 5000, "9" * 5000),
    ],
)
def test_meaning(name, text, value):
    found = parse_value(name, text)
    assert (found, type(found)) == (value, type(value))


def test_unknown_name():
    with pytest.raises(ConfigError, match=r"activationn: unknown setting\. Did you mean 'activation'\?"):
        parse_value("activationn", "relu")


def test_values_together_leave_out_what_is_empty():
    values = parse_values({"lr": "1e-2", "activation": "'Leaky ReLU'", "depth": "", "dense": "8"})
    assert values == {"lr": 0.01, "activation": "leaky_relu", "dense": (8,)}


def test_all_faults_at_once():
    with pytest.raises(ConfigError, match="must be greater than 0") as caught:
        parse_values({"lr": "-1", "activatoin": "relu", "epochs": "many", "optimizer": "adamm", "depth": "2"})
    assert [fault.key for fault in caught.value.faults] == ["lr", "activatoin", "epochs", "optimizer"]


@given(configs())
def test_params_read_back_as_what_they_were(config):
    params = config.as_params()
    for name, text in params.items():
        assert parse_value(name, text) == getattr(config, name), name
    again = TrialConfig(**parse_values(params))
    assert again == config
    assert again.cell_hash == config.cell_hash


@given(st.sampled_from(sorted(TrialConfig.model_fields)), st.text(max_size=30))
def test_any_text_is_a_value_or_a_config_error(name, text):
    with suppress(ConfigError):
        parse_values({name: text})
