"""The nets of timm and torchvision: each builds on the meta device, counts, and has stages and a head.

Of timm's 1,300 nets these are one per module; all of them, in an hour, with the environment variable `LAB_ALL_NETS`.
"""

from __future__ import annotations

import os

import pytest

from lab import registry
from lab.config import TrialConfig
from lab.errors import ConfigError
from lab.models import head_modules, skeleton, summarize_config
from lab.models.parts import parts_of
from lab.torchvision_import import import_torchvision

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CLASSES = 7
ENCODERS = "_enc"  # the end of the names of timm's nets that have no classifier, but feed language models
COLOURS_ONLY = "timm/csatv2"  # splits images of three channels into frequencies


def _timm_names() -> list[str]:
    import_torchvision("torchvision")  # before timm does it itself
    timm = pytest.importorskip("timm")
    names: list[str] = timm.list_models()
    if os.environ.get("LAB_ALL_NETS"):
        return [name for name in names if not name.endswith(ENCODERS)]
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(timm.model_entrypoint(name).__module__, name)
    return list(first.values())


def _size(config: TrialConfig) -> int:
    size: int = registry.architectures[config.architecture].load_library().inputs(config).size
    return size


def _fault(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> str:
    """Return what is wrong with the net of a config, empty if nothing is."""
    try:
        summary = summarize_config(config, shape, classes)
    except ConfigError as error:
        return str(error)
    model = skeleton(config, shape, classes)
    parts = parts_of(model)
    assert parts is not None
    staged = [name for names in parts.stages.values() for name in names]
    heads = head_modules(model)
    head = [f"{at}.{name}" for at, module in heads.items() for name, _ in module.named_parameters()]
    if sorted([*staged, *head]) != sorted(name for name, _ in model.named_parameters()):
        return "stages and head are not all parameters once"
    if not head or len(parts.stages) < 2:
        return f"{len(parts.stages)} stages, head {parts.head}"
    if {module.weight.shape[0] for module in heads.values()} != {classes}:
        return f"the head {parts.head} is none of classes"
    return "" if summary.params and summary.mult_adds else "nothing is counted"


@pytest.mark.parametrize("channels", [3, 1])
def test_nets_of_timm_build_and_count(channels: int) -> None:
    faults = {}
    names = _timm_names()
    for name in names if channels == 3 else [COLOURS_ONLY.removeprefix("timm/"), *names[::8]]:
        config = TrialConfig(architecture=f"timm/{name}")
        faults[config.architecture] = _fault(config, (channels, *[_size(config)] * 2), CLASSES)
    if channels == 1:
        assert "It takes only images of 3 channels" in faults.pop(COLOURS_ONLY)
    assert {name: fault for name, fault in faults.items() if fault} == {}
    assert len(faults) > 10


def test_every_net_of_torchvision_counts_what_torchvision_says() -> None:
    models = import_torchvision("torchvision.models")
    for name in models.list_models(module=models):
        about = models.get_model_weights(name).DEFAULT.meta
        config = TrialConfig(architecture=f"torchvision/{name}")
        shape = (3, *[_size(config)] * 2)
        assert _fault(config, shape, 1000) == "", name
        summary = summarize_config(config, shape, 1000)
        if name not in ("googlenet", "inception_v3"):  # for these, it counts the auxiliary classifiers, too
            assert summary.params == about["num_params"], name
        assert summary.mult_adds / 1e9 == pytest.approx(about["_ops"], rel=0.02, abs=0.001), name


def test_the_nets_of_torchvision_take_grey_images() -> None:
    models = import_torchvision("torchvision.models")
    one = {models.get_model_builder(n).__module__: n for n in models.list_models(module=models)}
    assert len(one) > 12
    for name in one.values():
        config = TrialConfig(architecture=f"torchvision/{name}")
        assert _fault(config, (1, *[_size(config)] * 2), CLASSES) == "", name
