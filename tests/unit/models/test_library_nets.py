"""Nets of timm and torchvision: built for any images, counted, frozen by stages, exported, and started from weights."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab import registry
from lab.config import TrialConfig, parse_config
from lab.data import Dataset, describe, load_data, settled
from lab.data.inputs import Inputs, weights_scale
from lab.errors import ConfigError, DataError, MissingDataError, OtherDataError
from lab.models import (
    build_model,
    check_weights,
    fetch_weights,
    frozen_modules,
    head_modules,
    pretrained_weights,
    summarize_config,
    trained_parameters,
    with_digest,
)
from lab.torchvision_import import import_torchvision
from lab.tracking.export import export_bytes

import_torchvision("torchvision")  # before timm does it itself
pytest.importorskip("timm")

COLOUR, GREY = (3, 32, 32), (1, 32, 32)

# A small one of each kind: convolutions, attention, two heads, no linear layer.
NETS = [
    "timm/mobilenetv3_small_050",
    "timm/test_convnext",
    "timm/test_vit",
    "torchvision/mobilenet_v3_small",
    "torchvision/squeezenet1_1",
]


def net(architecture: str, **values: Any) -> TrialConfig:
    return parse_config({"architecture": architecture, **values})


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [*((name, (2, 48, 48)) for name in NETS), ("timm/test_vit", GREY), ("torchvision/squeezenet1_1", GREY)],
)
def test_nets_take_images_of_any_channels_and_size(architecture: str, shape: tuple[int, int, int]) -> None:
    config = net(architecture)
    model = build_model(config, shape, 5).eval()
    assert model(torch.randn(2, *shape)).shape == (2, 5)
    summary = summarize_config(config, shape, 5)
    assert summary.params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("architecture", NETS[1:3] + NETS[4:])
def test_a_net_is_exported_for_any_number_of_images(architecture: str, tmp_path: Path) -> None:
    model = build_model(net(architecture), COLOUR, 5).eval()
    (tmp_path / "net.pt2").write_bytes(export_bytes(model, torch.zeros(1, *COLOUR)))
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    images = torch.randn(3, *COLOUR)
    torch.testing.assert_close(loaded(images), model(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "params", "giga_mult_adds"),
    [  # as timm's own results list them, at 224×224
        ("timm/convnext_atto", 3.70, 0.55),
        ("timm/vit_tiny_patch16_224", 5.72, 1.26),
        ("timm/swin_tiny_patch4_window7_224", 28.29, 4.51),
        ("timm/resnet50", 25.56, 4.11),
        # as torchvision's weights say
        ("torchvision/vit_b_16", 86.57, 17.56),
        ("torchvision/regnet_x_400mf", 5.50, 0.41),
    ],
)
def test_counts_are_the_published_ones(architecture: str, params: float, giga_mult_adds: float) -> None:
    summary = summarize_config(net(architecture), (3, 224, 224), 1000)
    assert summary.params / 1e6 == pytest.approx(params, abs=0.01)
    assert summary.mult_adds / 1e9 == pytest.approx(giga_mult_adds, rel=0.02)


def test_names_are_found_in_any_spelling_and_with_the_tag_of_weights() -> None:
    assert net("timm/ConvNeXt-Atto").architecture == "timm/convnext_atto"
    assert net("Torchvision/ResNet 18").architecture == "torchvision/resnet18"
    assert net("timm/convnext_atto.d2_in1k").architecture == "timm/convnext_atto.d2_in1k"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"architecture": "timm/convnext_ato"},
            "timm has no net of this name. Did you mean 'timm/convnext_atto'",
        ),
        ({"architecture": "tim/convnext"}, "Known: .* vgg19, timm/NAME, torchvision/NAME"),
        (
            {"architecture": "torchvision/resnet18", "pretrained": True},
            "pretrained: torchvision/resnet18 has no setting pretrained; use weights: DEFAULT, or a file",
        ),
        (
            {"architecture": "resnet18", "weights": "DEFAULT"},
            "weights: resnet18 has no setting weights, because it has no pretrained weights; timm/NAME and",
        ),
        (
            {"architecture": "timm/convnext_atto", "pretrained": True, "init_from": "best:a"},
            "pretrained: contradicts init_from=best:a: training starts from one of them",
        ),
        ({"input_scale": "weights"}, "input_scale: cnn has no pretrained weights; weights needs a timm or"),
    ],
)
def test_what_does_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(values)


def test_images_that_a_net_cannot_take_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"timm/inception_v3 cannot take images of 1×28×28: .*[Kk]ernel"):
        summarize_config(net("timm/inception_v3"), (1, 28, 28), 10)
    with pytest.raises(
        ConfigError, match=r"torchvision/vit_b_16 cannot be made for images of 3×50×50: .*indivisible"
    ):
        summarize_config(net("torchvision/vit_b_16"), (3, 50, 50), 10)
    with pytest.raises(
        ConfigError,
        match=r"architecture: must give one value for each of 10 classes, but gives .*, like an encoder",
    ):
        summarize_config(net("timm/mobilenetv5_300m_enc", dataset="mnist"), (3, 256, 256), 10)


def test_without_timm_a_config_is_read_and_its_net_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("lab.models.timm_nets.require", _missing)
    config = net("timm/of_a_later_version")
    with pytest.raises(DataError, match="missing"):
        summarize_config(config, COLOUR, 10)


def _missing(*_given: object) -> Any:
    raise DataError("missing")


# ---- stages and learning rates


@pytest.mark.parametrize("architecture", NETS)
def test_stages_and_head_are_all_parameters_once(architecture: str) -> None:
    model = build_model(net(architecture, freeze="all_but_head"), COLOUR, 5)
    head = {id(p) for module in head_modules(model).values() for p in module.parameters()}
    assert {id(p) for p in model.parameters() if p.requires_grad} == head
    assert len(frozen_modules(model, 3)) > len(frozen_modules(model, 2))  # there are at least three stages


def test_freezing_stops_after_the_stages_that_it_names() -> None:
    model = build_model(net("timm/test_vit", freeze=2), COLOUR, 5)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert not [
        name for name in trained if name.startswith(("cls_token", "pos_embed", "patch_embed", "blocks.0"))
    ]
    assert trained[0].startswith("blocks.1.")
    with pytest.raises(ConfigError, match=r"freeze: must be at most \d+: .*blocks\.0.* but got 99"):
        build_model(net("timm/test_vit", freeze=99), COLOUR, 5)


def test_the_head_has_the_rate_and_everything_else_a_part_of_it() -> None:
    config = net("torchvision/mobilenet_v3_small", lr=0.01, backbone_lr_factor=0.1)
    model = build_model(config, COLOUR, 5)
    head, others = trained_parameters(model, config)
    assert (head["lr"], others["lr"]) == (0.01, pytest.approx(0.001))
    (layer,) = head_modules(model).values()
    assert [id(p) for p in head["params"]] == [id(p) for p in layer.parameters()]
    assert len(head["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_a_factor_that_scales_nothing_makes_no_other_trial() -> None:
    frozen = {"architecture": "timm/test_vit", "freeze": "all_but_head"}
    assert parse_config({**frozen, "backbone_lr_factor": 0.1}).cell_hash == parse_config(frozen).cell_hash
    assert parse_config({"backbone_lr_factor": 0.1}).cell_hash != parse_config({}).cell_hash


# ---- pretrained weights


def saved(architecture: str, file: Path, classes: int = 5, shape: tuple[int, int, int] = COLOUR) -> nn.Module:
    torch.manual_seed(1)
    model = build_model(net(architecture), shape, classes)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if file.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(tensors, file)
    else:
        torch.save(tensors, file)
    return model


def of_file(architecture: str, file: Path, **values: Any) -> TrialConfig:
    setting = "pretrained" if architecture.startswith("timm/") else "weights"
    return net(architecture, **{setting: str(file)}, **values)


def head_of(model: nn.Module) -> tuple[str, ...]:
    return tuple(f"{name}." for name in head_modules(model))


@pytest.mark.parametrize(
    ("architecture", "suffix"),
    [*((name, ".pth") for name in NETS), ("timm/test_vit", ".safetensors"), (NETS[-1], ".safetensors")],
)
def test_weights_of_a_file_are_loaded_with_the_head_if_its_classes_are_as_many(
    architecture: str, suffix: str, tmp_path: Path
) -> None:
    model = saved(architecture, tmp_path / f"w{suffix}")
    config = of_file(architecture, tmp_path / f"w{suffix}")
    same, other = (pretrained_weights(config, COLOUR, classes) for classes in (5, 3))
    assert same is not None
    assert other is not None
    assert (same.new_head, other.new_head) == (False, True)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(same.tensors[name], tensor)
        assert (name in other.tensors) is not name.startswith(head_of(model))


@pytest.mark.parametrize("architecture", NETS)
def test_weights_for_colours_give_the_same_for_grey_images(architecture: str, tmp_path: Path) -> None:
    model = saved(architecture, tmp_path / "w.pth").eval()
    found = pretrained_weights(of_file(architecture, tmp_path / "w.pth"), GREY, 5)
    assert found is not None
    grey = build_model(net(architecture), GREY, 5).eval()
    grey.load_state_dict(dict(found.tensors))
    images = torch.randn(2, *GREY)
    torch.testing.assert_close(grey(images), model(images.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "architecture", ["timm/test_vit", pytest.param("torchvision/vit_b_32", marks=pytest.mark.slow)]
)
def test_position_embeddings_are_fitted_to_the_size_of_the_images(architecture: str, tmp_path: Path) -> None:
    saved(architecture, tmp_path / "w.pth", shape=(3, 64, 64))
    found = pretrained_weights(of_file(architecture, tmp_path / "w.pth"), (3, 96, 96), 5)
    assert found is not None
    build_model(net(architecture), (3, 96, 96), 5).load_state_dict(dict(found.tensors))


def test_reading_weights_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    saved("timm/test_vit", tmp_path / "w.pth")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    pretrained_weights(of_file("timm/test_vit", tmp_path / "w.pth"), COLOUR, 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("architecture", "other", "difference"),
    [
        ("timm/test_vit", "timm/test_convnext", "its cls_token is missing, this one's is 1×1×64"),
        ("torchvision/mobilenet_v3_small", "torchvision/squeezenet1_1", "is missing, this one's is"),
        (
            "torchvision/resnet18",
            "torchvision/resnet34",
            "its layer1.2.conv1.weight is 64×64×3×3, this",
        ),
    ],
)
def test_the_file_of_another_net_is_one_error(
    architecture: str, other: str, difference: str, tmp_path: Path
) -> None:
    file = tmp_path / "other.pth"
    saved(other, file)
    with pytest.raises(
        ConfigError, match=rf"{file} are not those of {architecture}: .*{difference}"
    ) as raised:
        check_weights(with_digest(of_file(architecture, file)), COLOUR, 5)
    assert len(raised.value.faults) == 1


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"not a file of weights", "it is not a file of torch.save"),
        ({"epoch": 3}, "it holds no state dict"),
        ({}, "it holds no state dict"),
        ({"state_dict": {"a": print}}, "more than tensors and plain values"),
    ],
)
def test_a_file_that_holds_no_weights_is_one_error(contents: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    if isinstance(contents, bytes):
        file.write_bytes(contents)
    else:
        torch.save(contents, file)
    with pytest.raises(ConfigError, match=f"pretrained: The weights {file} can.*{message}"):
        check_weights(with_digest(of_file("timm/test_vit", file)), COLOUR, 5)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_weights_that_are_not_a_file_are_one_error(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"The weights .*/w\.pth cannot be read: this is not a file$"):
        with_digest(of_file("timm/test_vit", tmp_path / "w.pth"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_is_cut_off_is_one_error(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"w{suffix}"
    saved("timm/test_vit", file)
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(
        ConfigError, match=rf"{file} cannot be read: .*\. If the file is damaged, copy it here"
    ):
        check_weights(with_digest(of_file("timm/test_vit", file)), COLOUR, 5)


def test_the_state_of_a_training_program_is_looked_into(tmp_path: Path) -> None:
    model = build_model(net("timm/test_vit"), COLOUR, 5)
    wrapped = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "w.pth")
    found = pretrained_weights(of_file("timm/test_vit", tmp_path / "w.pth"), COLOUR, 5)
    assert found is not None
    assert found.tensors.keys() == model.state_dict().keys()


def test_another_file_is_another_trial_and_another_name_is_not(tmp_path: Path) -> None:
    for name, classes in (("a", 5), ("b", 4)):
        saved("timm/test_vit", tmp_path / f"{name}.pth", classes)
    (tmp_path / "c.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    a, b, c = (with_digest(of_file("timm/test_vit", tmp_path / f"{name}.pth")).cell_hash for name in "abc")
    assert a == c != b
    planned = with_digest(of_file("timm/test_vit", tmp_path / "a.pth"))
    (tmp_path / "a.pth").write_bytes((tmp_path / "b.pth").read_bytes())
    with pytest.raises(OtherDataError, match=r"a\.pth are not those of this trial: their digest is sha256:"):
        pretrained_weights(planned, COLOUR, 5)
    with pytest.raises(MissingDataError, match=r"There is no file of weights .*/gone\.pth"):
        with_digest(of_file("timm/test_vit", tmp_path / "gone.pth"))
    with pytest.raises(MissingDataError, match=r"There is no file of weights .*/WEIGHTS$"):
        with_digest(net("timm/test_vit", pretrained="WEIGHTS"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"architecture": "timm/convnext_atto", "pretrained": True},
            r"of timm/convnext_atto are not on this machine. Add --download; or get the file from"
            r" https://huggingface.co/timm/convnext_atto.d2_in1k, and set pretrained to its path",
        ),
        (
            {"architecture": "torchvision/resnet18", "weights": "DEFAULT"},
            r"Add --download; or get the file from https://download.pytorch.org/models/resnet18-f37072fd.pth, and set"
            r" weights to",
        ),
    ],
)
def test_published_weights_are_only_downloaded_if_asked(
    values: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(MissingDataError, match=message):
        fetch_weights(with_digest(parse_config(values)))


def test_downloaded_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    model = saved("torchvision/squeezenet1_1", tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    config = net("torchvision/squeezenet1_1", weights="DEFAULT")
    found = pretrained_weights(config, COLOUR, 5)
    assert found is not None
    torch.testing.assert_close(dict(found.tensors), dict(model.state_dict()))


def test_a_download_comes_from_the_address_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, hub = tmp_path / "source", tmp_path / "hub"
    source.mkdir()
    saved("torchvision/squeezenet1_1", source / "net.pth")
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(hub))
    library = registry.architectures["torchvision/squeezenet1_1"].load_library()
    monkeypatch.setattr(type(library), "source", lambda self, config: (source / "net.pth").as_uri())
    config = net("torchvision/squeezenet1_1", weights="DEFAULT")
    assert fetch_weights(config, download=True) == hub / "checkpoints" / "net.pth"


def test_a_download_that_has_nowhere_to_go_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub").write_text("a file, not a folder")
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    message = (
        r"resnet18-f37072fd\.pth cannot be downloaded: Not a directory\. Try again; or get the file from"
    )
    with pytest.raises(MissingDataError, match=message):
        fetch_weights(net("torchvision/resnet18", weights="DEFAULT"), download=True)


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ({"architecture": "timm/test_vit", "pretrained": True}, "/timm/test_vit.r160_in1k"),
        ({"architecture": "torchvision/resnet18", "weights": "DEFAULT"}, "/resnet18-f37072fd.pth"),
    ],
)
def test_a_download_without_a_network_ends_at_once(
    values: dict[str, Any], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setattr("urllib.request._opener", None)  # it would remember an earlier proxy
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    setting = next(reversed(values))
    with pytest.raises(
        MissingDataError, match=rf"{address} cannot be downloaded: .*refused. Try again; .* set {setting} to"
    ):
        fetch_weights(parse_config(values), download=True)
    assert time.monotonic() - began < 20  # huggingface_hub would try each of its files for half a minute


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"architecture": "torchvision/resnet50", "weights": "IMAGENET1K_V3"},
            r"has no weights named IMAGENET1K_V3. Did you mean 'IMAGENET1K_V\d'\? Known: IMAGENET1K_V1",
        ),
        (
            {"architecture": "timm/convnext_zepto_rms_ols", "pretrained": True},
            "pretrained: timm publishes no weights for timm/convnext_zepto_rms_ols",
        ),
    ],
)
def test_weights_that_nobody_publishes(values: dict[str, Any], message: str) -> None:
    timm = pytest.importorskip("timm")
    name = "convnext_zepto_rms_ols"
    if values["architecture"].endswith(name) and (
        not timm.is_model(name) or timm.get_pretrained_cfg(name).hf_hub_id
    ):
        names = [n for n in timm.list_models() if not timm.is_model_pretrained(n)]
        values, message = {**values, "architecture": f"timm/{names[0]}"}, "timm publishes no weights for"
    with pytest.raises(ConfigError, match=message):
        with_digest(parse_config(values))


# ---- the input of the weights


def test_the_input_of_the_weights_is_taken_over_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    values = {"architecture": "timm/convnext_atto", "pretrained": True, "dataset": "image_folder"}
    config = parse_config({**values, "data_dir": str(tmp_path)})
    assert config.input_scale == "weights"
    assert settled(config).image_size == 224
    assert parse_config({**values, "input_scale": "standard"}).input_scale == "standard"
    assert settled(parse_config({**values, "image_size": 64})).image_size == 64
    assert parse_config({"architecture": "timm/convnext_atto"}).input_scale == "standard"
    assert parse_config(config.as_values()).cell_hash == config.cell_hash


def test_images_of_a_fixed_size_keep_it_and_are_scaled_as_the_weights_want() -> None:
    config = net("torchvision/resnet18", weights="DEFAULT", dataset="synthetic", val_fraction=0.5)
    dataset: Dataset = load_data(config)
    assert dataset.shape == describe(config).shape
    assert dataset.mean.tolist() == pytest.approx([0.485, 0.456, 0.406][: len(dataset.mean)], abs=0.05)
    (note,) = [note for note in dataset.notes if note.startswith("input:")]
    assert "with the weights' mean" in note
    assert note.endswith("torchvision/resnet18 (IMAGENET1K_V1) was trained on 3×224×224")
    grey, deviation = weights_scale(config, 1)
    assert grey.item() == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert deviation.shape == (1,)


@pytest.mark.parametrize("architecture", ["torchvision/googlenet", "torchvision/inception_v3"])
def test_nets_from_tensorflow_see_what_torchvision_would_show_them(architecture: str) -> None:
    inputs: Inputs = registry.architectures[architecture].load_library().inputs(net(architecture))
    pixels = torch.rand(3)
    usual_mean, usual_std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen = _transform_input((pixels - usual_mean) / usual_std)
    torch.testing.assert_close((pixels - torch.tensor(inputs.mean)) / torch.tensor(inputs.std), seen)


def _transform_input(images: Tensor) -> Tensor:
    model = import_torchvision("torchvision.models").googlenet(
        weights=None, aux_logits=False, init_weights=False, transform_input=True
    )
    changed: Tensor = model._transform_input(images.view(1, 3, 1, 1))
    return changed.flatten()
