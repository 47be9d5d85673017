"""Models that are saved without tracing their net again."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.pytorch
import pytest
import torch
from torch import Tensor, nn

from lab.config import TrialConfig
from lab.data import Intake
from lab.models import build_model
from lab.objective.result import Normalized
from lab.tracking import saving
from lab.tracking.export import portable
from lab.tracking.templates import Template, likeness

_SHAPE = (3, 32, 32)
_INTAKE = Intake(tuple("abcde"), _SHAPE, (0.5,) * 3, (0.2,) * 3)
_NETS: dict[str, dict[str, Any]] = {
    "dropout": {"dense": [16], "dense_norm": "batch", "dropout": 0.2, "conv_dropout": 0.1},
    "residual": {"block": "residual", "norm": "batch", "freeze": 1},
    "depthwise": {"block": "inverted_residual", "activation": "relu6"},
}


@pytest.fixture(autouse=True)
def _nothing_saved_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_templates", OrderedDict())


def save(model: nn.Module, folder: Path, intake: Intake | None = _INTAKE) -> Path:
    saving.save_model(model, torch.zeros(2, *_SHAPE), folder, intake)
    return folder


def trained(seed: int, **settings: Any) -> nn.Module:
    """Return a net with weights, statistics and a memory format like those of a trained one."""
    torch.manual_seed(seed)
    net = build_model(TrialConfig(dataset="synthetic", **settings), _SHAPE, 5).to(
        memory_format=torch.channels_last  # type: ignore[call-overload]
    )
    net(torch.rand(4, *_SHAPE))
    return Normalized(net.eval(), torch.rand(3), torch.rand(3) + 0.5)


def plain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), *(layers or [nn.ReLU()]), nn.Flatten(), nn.Linear(3600, 5))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of a model's files, without its id and the time."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: re.sub(rb"model_uuid: \w{32}\n|utc_time_created: '[^']+'\n", b"", path.read_bytes())
        for name, path in files.items()
    }


@pytest.mark.parametrize(
    ("net", "intake"), [*((net, _INTAKE) for net in _NETS), ("dropout", None)], ids=[*_NETS, "tensors"]
)
def test_a_net_that_is_not_traced_again_is_saved_as_if_it_were(
    net: str, intake: Intake | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (trained(seed, **_NETS[net], lr=lr) for seed, lr in enumerate((0.1, 0.2)))
    traced: list[nn.Module] = []
    trace = saving._trace
    monkeypatch.setattr(
        saving, "_trace", lambda *args, **kwargs: traced.append(args[0]) or trace(*args, **kwargs)
    )  # type: ignore[func-returns-value]
    save(first, tmp_path / "first", intake)
    copied = save(second, tmp_path / "copied", intake)
    assert len(traced) == 1
    saving._templates.clear()
    anew = save(second, tmp_path / "anew", intake)
    assert len(traced) == 2
    assert contents(copied) == contents(anew)
    images = torch.rand(3, *_SHAPE)
    with torch.no_grad():
        assert torch.equal(
            mlflow.pytorch.load_model(str(copied))(images), mlflow.pytorch.load_model(str(anew))(images)
        )
        torch.testing.assert_close(mlflow.pytorch.load_model(str(copied))(images), portable(second)(images))


def test_each_copy_has_an_id_and_an_intake_of_its_own(tmp_path: Path) -> None:
    folders = [save(plain(), tmp_path / str(number)) for number in range(2)]
    other = replace(_INTAKE, classes=tuple("vwxyz"))
    folders.append(save(plain(), tmp_path / "other", other))
    described = [mlflow.models.Model.load(str(folder)) for folder in folders]
    assert (
        len({each.model_uuid for each in described})
        == len({each.utc_time_created for each in described})
        == 3
    )
    assert Intake.from_json((folders[2] / "intake.json").read_text()).classes == tuple("vwxyz")


def test_other_sizes_of_images_and_other_faces_are_other_models(tmp_path: Path) -> None:
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    save(pooled, tmp_path / "pictures")
    save(pooled, tmp_path / "tensors", None)
    saving.save_model(pooled, torch.zeros(2, 3, 16, 16), tmp_path / "small")
    shapes = [
        mlflow.models.Model.load(str(tmp_path / name)).signature.inputs.inputs[0]
        for name in ("tensors", "small")
    ]
    assert [each.shape for each in shapes] == [(-1, 3, 32, 32), (-1, 3, 16, 16)]
    assert "binary" in (tmp_path / "pictures" / "MLmodel").read_text()


def test_weights_do_not_make_nets_different() -> None:
    assert likeness(plain()) == likeness(plain()) is not None


def _tied() -> nn.Module:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


def _frozen() -> nn.Module:
    net = plain()
    net[0].weight.requires_grad = False
    return net


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (plain(), plain(nn.GELU())),
        (plain(nn.LeakyReLU(0.1)), plain(nn.LeakyReLU(0.2))),
        (plain(nn.Dropout(0.1)), plain(nn.Dropout(0.2))),
        (plain(), plain().double()),
        (plain(), plain().eval()),
        (plain(), _frozen()),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), _tied()),
        (nn.Linear(3, 4, bias=False), nn.Linear(4, 3, bias=False)),
    ],
    ids=["class", "argument", "dropout", "type", "mode", "frozen", "tied", "shape"],
)
def test_nets_are_not_alike_if_anything_but_weights_differs(one: nn.Module, other: nn.Module) -> None:
    found = likeness(one), likeness(other)
    assert None not in found
    assert found[0] != found[1]


class _Own(nn.Module):
    """Does what a variable outside says."""

    factor = 1.0

    def forward(self, images: Tensor) -> Tensor:
        return images * _Own.factor


def _with_hook() -> nn.Module:
    net = plain()
    net[1].register_forward_hook(lambda layer, images, result: result * 2)
    return net


def _halved(images: Tensor) -> Tensor:
    return images / 2


def _with_forward() -> nn.Module:
    net = plain()
    net[1].forward = _halved
    return net


def _with_buffer() -> nn.Module:
    net = plain()
    net.register_buffer("factor", torch.ones(1), persistent=False)
    return net


def _with_tensor() -> nn.Module:
    net = plain()
    net.factor = torch.ones(1)
    return net


@pytest.mark.parametrize(
    "build",
    [lambda: plain(_Own()), _with_hook, _with_forward, _with_buffer, _with_tensor],
    ids=["class", "hook", "function", "buffer", "tensor"],
)
def test_a_net_that_may_do_something_else_next_time_is_like_no_other(build: Callable[[], nn.Module]) -> None:
    assert likeness(build()) is None


def test_a_users_own_layer_is_traced_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(_Own(), nn.Flatten())
    for factor in (1.0, 3.0):
        monkeypatch.setattr(_Own, "factor", factor)
        saved = mlflow.pytorch.load_model(str(save(net, tmp_path / str(factor), None)))
        assert torch.equal(saved(torch.ones(2, *_SHAPE)), factor * torch.ones(2, 3072))


def test_no_template_of_what_does_not_give_the_same_file_again(tmp_path: Path) -> None:
    net = portable(plain())
    folder = save(net, tmp_path / "model")
    assert Template.of(folder, net) is not None
    assert Template.of(folder, portable(plain())) is None  # its weights are others
    assert Template.of(folder, nn.Flatten()) is None  # it has none
    (folder / "data" / "model.pt2").write_bytes(b"in another format")
    assert Template.of(folder, net) is None


def test_the_last_templates_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_MOST", 2)
    for number, layer in enumerate([nn.ReLU(), nn.GELU(), nn.SiLU()]):
        save(plain(layer), tmp_path / str(number))
    kinds = [kind for kind, *_ in saving._templates]
    assert kinds == [likeness(portable(plain(layer))) for layer in (nn.GELU(), nn.SiLU())]
