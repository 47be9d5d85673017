"""TrialConfig: identity, canonical values, presets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lab import registry
from lab.config import PRESETS, TrialConfig, as_text, check_value, field_kinds, load_grid, parse_config
from lab.errors import ConfigError

GRIDS = Path(__file__).parents[3] / "grids"


@pytest.mark.parametrize(
    ("cell_hash", "settings"),
    [
        ("44136fa355b3678a", {}),
        (
            "1d8e14694c9fb366",
            {"preset": "lenet", "dataset": "mnist", "lr": 0.01, "batch_size": 128, "seed": 3},
        ),
        (
            "26140c3dd7572eb0",
            {"dataset": "cifar10", "preset": "lenet", "optimizer": "sgd", "momentum": 0.9, "nesterov": True}
            | {"lr": 0.01, "seed": 3},
        ),
        (
            "6f9e2dd3516476a7",
            {
                "dataset": "mnist",
                "filters": (6, 16),
                "kernel_size": (5, 3),
                "pool": (2, 1),
                "dense": (120, 84),
            }
            | {"dropout": (0.0, 0.5, 0.5), "activation": "Leaky ReLU"},
        ),
        (
            "da2d00c2055f7d74",
            {"dataset": "image_folder", "data_dir": "/d", "data_digest": "sha256:0123456789abcdef"}
            | {"image_size": 32, "classes": ("a", "b")},
        ),
        ("a0bce162e4b48c8c", {"dataset": "image_folder", "data_dir": "/d"}),
        (
            "9e181ede2c67237f",
            {"architecture": "resnet18", "augment": ("random_crop", "cutout"), "scheduler": "plateau"}
            | {"loss": "balanced_cross_entropy", "label_smoothing": 0.1},
        ),
        (
            "03b06a4691658e01",
            {"block": "inverted_residual", "expansion": 6, "patience": None, "monitor": "train_loss"}
            | {"precision": "bf16"},
        ),
        (
            "ba542a585f378c13",
            {
                "init_from": "best:svhn_pretrain",
                "freeze": 2,
                "hard_mining_from": 3,
                "scheduler": "step",
                "top_k": 3,
            },
        ),
        (
            "f00a3840febbc65a",
            {"dataset": "synthetic", "image_size": 64, "train_samples": 100, "split_seed": 2, "threads": 4}
            | {"device": "cpu", "checkpoint_every_n_steps": 5},
        ),
    ],
)
def test_cell_hash_is_pinned(cell_hash, settings):
    """Stored studies find their cells by it: a change here would train every cell again."""
    assert TrialConfig(**settings).cell_hash == cell_hash


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("cifar10_models", "93b6e74f95cc25cf", "a9dbe2e60ac44068"),
        ("mnist_depth", "a1bc145e3e24ebd5", "5cd8a0f3674c4332"),
        ("quickstart", "657484ce80c4f683", "0ceabbdd6a062155"),
        ("quickstart_search", "2d2eeac3e0eb7a45", "5415ec47adea623b"),
        ("scenes_ablation", "84a58992793092ec", "8304998d8ebae7e5"),
        ("svhn_transfer", "60948038745f0e05", "916b2462d4ca986d"),
    ],
)
def test_cell_hashes_of_shipped_grids_are_pinned(name, first, last):
    grid = load_grid(GRIDS / f"{name}.yaml")
    ends = [grid.config(grid.space.at(index)).cell_hash for index in (0, grid.space.size - 1)]
    assert ends == [first, last]


def test_where_it_runs_and_how_it_is_spelled_is_not_identity():
    plain = TrialConfig(optimizer="sgd", lr=0.1)
    assert plain.cell_hash == TrialConfig(optimizer="SGD", lr=1e-1, device="cuda", threads=3).cell_hash
    assert plain.cell_hash == TrialConfig(optimizer="sgd", lr=0.1, momentum=0.0, data_dir="/x").cell_hash
    assert plain.cell_hash != TrialConfig(optimizer="sgd", lr=0.1, momentum=0.9).cell_hash


def test_a_zero_has_no_sign_in_the_identity():
    zeros = {"optimizer": "sgd", "momentum": 0.0, "dense": [5], "dropout": [0.5, 0.0]}
    signed = {"optimizer": "sgd", "momentum": -0.0, "dense": [5], "dropout": [0.5, -0.0]}
    assert parse_config(signed).cell_hash == parse_config(zeros).cell_hash


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


@pytest.mark.parametrize("smoothing", [None, 0.0])
def test_mse_without_smoothing_is_the_cell_that_it_was_before_it_took_any(smoothing):
    assert TrialConfig(loss="mse", label_smoothing=smoothing).cell_hash == "074c62fabe07b088"
    assert TrialConfig(loss="mse", label_smoothing=0.1).cell_hash != "074c62fabe07b088"


@pytest.mark.parametrize(
    ("optimizer", "momentum", "nesterov"), [("sgd", 0.0, False), ("muon", 0.95, True), ("adam", None, None)]
)
def test_momentum_is_by_default_what_is_usual_for_the_optimizer(optimizer, momentum, nesterov):
    config = TrialConfig(optimizer=optimizer)
    assert (config.momentum, config.nesterov) == (momentum, nesterov)


def test_without_momentum_there_is_no_nesterov():
    assert TrialConfig(optimizer="muon", momentum=0.0).nesterov is False


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
        ("device", "cuda:1", "cuda:1"),
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
        ("learning", 1, "learning: unknown setting"),
        ("lr", list(range(200)), "…"),
        ("metrics", "auroc", r"metrics: must be a list, as in \[auroc\], but got 'auroc'"),
        ("filters", 6, r"filters: must be a list, as in \[6\], but got 6"),
        (
            "device",
            "gpu",
            "device: must be auto, cpu, cuda, mps, or one of several as in cuda:1, but got 'gpu'",
        ),
        ("device", "", "device: must be auto, cpu, cuda, mps, .* but got ''"),
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


def test_settings_of_another_architecture_are_dropped() -> None:
    plain = TrialConfig(architecture="resnet18")
    given = TrialConfig(
        architecture="resnet18", filters=(6, 16), activation="gelu", dense=(84,), norm="batch"
    )
    assert plain == given
    assert "filters" not in given.as_params()
    assert TrialConfig(architecture="vgg19", dense=(512,)).as_params()["dense"] == "512"
    assert "stem" not in TrialConfig().as_params()


def test_settings_of_blocks_count_only_where_the_blocks_are() -> None:
    assert TrialConfig(block_depth=3, expansion=6) == TrialConfig()
    residual = TrialConfig(filters=(4, 4), block=("conv", "residual"), block_depth=3, expansion=6)
    assert (residual.block_depth, residual.expansion) == (3, TrialConfig().expansion)


def test_options_of_augmentations_count_only_where_they_are_used() -> None:
    assert TrialConfig(rotation_degrees=30.0) == TrialConfig()
    config = TrialConfig(augment=("rotation", "cutout"), rotation_degrees=30.0)
    assert (config.rotation_degrees, config.cutout_size, config.translation_fraction) == (30.0, 0.25, None)


def test_hard_mining_has_a_fraction_only_where_it_is_on() -> None:
    assert TrialConfig(hard_mining_fraction=0.3) == TrialConfig()
    assert TrialConfig(hard_mining_from=4).hard_mining_fraction == 0.1


def test_classes_are_names_even_where_they_look_like_numbers() -> None:
    assert parse_config({"classes": [0, 9]}).classes == ("0", "9")


@pytest.mark.parametrize(
    "origin", ["0" * 32, "3f2c", f"runs:/{'a' * 32}", "models:/digits/3", "models:/digits@best", "best:s"]
)
def test_where_weights_may_come_from(origin: str) -> None:
    assert TrialConfig(init_from=origin).init_from == origin


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"init_from": "../weights.pt"}, "init_from: must be a run id, models:/NAME/VERSION or best:STUDY"),
        ({"freeze": 0}, "freeze: must be 'none' or 'all_but_head' or a number from 1, but got 0"),
        ({"block": "resnet"}, "block: must be 'conv', 'residual', 'preact' or 'inverted_residual'"),
        ({"filters": [4, 4], "block": ["conv"]}, "block: must have one value for each conv layer"),
        (
            {"preset": "lenet", "depth": 3},
            r"depth=3 contradicts filters=6,16; give one of them \(the preset lenet sets filters\)",
        ),
        (
            {"preset": "cerberus", "filters": [32]},
            r"pool: must have one value .* \(1\), but got 12 \(the preset cerberus sets pool\)",
        ),
        (
            {"scheduler": "plateau", "scheduler_monitor": "val_loss", "val_fraction": 0.0}
            | {"monitor": "train_accuracy"},
            "scheduler_monitor: val_fraction=0 leaves no validation images",
        ),
        (
            {"folds": 5},
            r"folds: folds=5 needs fold: one of 0 to 4, or all of them in a grid: fold: \[0, 1, 2, 3, 4\]",
        ),
        ({"fold": 2}, "fold: fold=2 needs folds, the number of folds, e.g. folds: 5"),
        ({"folds": 5, "fold": 5}, "fold: must be from 0 to 4 with folds=5, but got 5"),
        (
            {"folds": 5, "fold": 0, "val_fraction": 0.2},
            "val_fraction: val_fraction=0.2 contradicts folds=5: the fold is the validation split; leave out one",
        ),
    ],
)
def test_new_settings_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(values)


def test_folds_take_the_place_of_a_validation_fraction() -> None:
    config = parse_config({"folds": 5, "fold": 0})
    assert "val_fraction" not in config.as_values()
    assert parse_config(config.as_values()) == config
    assert config.cell_hash != parse_config({"folds": 5, "fold": 1}).cell_hash != TrialConfig().cell_hash


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"monitor": "val_acuracy"},
            "unknown metric 'val_acuracy'. Did you mean 'val_accuracy'? Known: train",
        ),
        ({"monitor": "val_AUROC"}, "monitor: unknown metric 'val_AUROC'. Did you mean 'val_auroc'?"),
        ({"monitor": "val_auroc"}, "monitor: val_auroc is only computed with metrics: [auroc]"),
        (
            {"monitor": "val_f1", "metrics": ("ece",)},
            "monitor: val_f1 is only computed with metrics: [ece, f1]",
        ),
        ({"monitor": "val_ece", "metrics": ("ece",), "val_fraction": 0.0}, "leaves no validation images"),
        (
            {"monitor": "epoch_test_ece", "metrics": ("ece",)},
            "monitor: epoch_test_ece is only computed with eval_test_every_epoch: true",
        ),
        (
            {"scheduler": "plateau", "scheduler_monitor": "val_f1"},
            "scheduler_monitor: val_f1 is only computed with metrics: [f1]",
        ),
        (
            {"metrics": ("aroc",)},
            "metrics: Unknown metric 'aroc'. Did you mean 'auroc'? Known: accuracy, auroc",
        ),
        ({"metrics": ("aroc",), "monitor": "val_aroc"}, "metrics: Unknown metric 'aroc'"),
        (
            {"metrics": ("mine",), "monitor": "val_mine"},
            "mode: must be max or min, because val_mine does not say",
        ),
        (
            {"metrics": ("mine",), "scheduler": "plateau", "scheduler_monitor": "val_mine"},
            "scheduler_monitor: val_mine does not say whether higher is better, so only `monitor` can watch it",
        ),
        (
            {"metrics": ("Accuracy",)},
            "metrics: lab itself logs val_accuracy or test_accuracy; give your metric",
        ),
    ],
)
def test_what_is_monitored_is_a_metric_that_is_computed(
    values: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.metrics, "_entries", dict(registry.metrics._entries))
    registry.metrics.register("mine", object())
    registry.metrics.register("accuracy", object(), higher_is_better=True)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        parse_config(values)
    assert len(caught.value.faults) == 1


def test_metrics_have_no_order_and_know_their_direction() -> None:
    one = TrialConfig(metrics=("F1", "ece", "f1"), monitor="val_ece")
    other = TrialConfig(metrics=("ece", "f1"), monitor="val_ece", mode="min")
    assert (one.cell_hash, one.metrics, one.mode) == (other.cell_hash, ("ece", "f1"), "min")
    assert one.cell_hash != TrialConfig(monitor="val_loss").cell_hash
    assert TrialConfig(metrics=("auroc",), monitor="val_auroc").mode == "max"
    assert TrialConfig(metrics=("auroc",), monitor="val_auroc", mode="min").mode == "min"
