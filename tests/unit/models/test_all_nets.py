"""Every net of timm and torchvision: it builds on the meta device, counts, and has stages and a head."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import registry
from lab.config import TrialConfig
from lab.errors import ConfigError
from lab.models import head_modules, skeleton, summarize_config
from lab.models.parts import parts_of
from lab.torchvision_import import import_torchvision

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CLASSES = 7
ENCODERS = "_enc"  # the end of the names of timm's nets that have no classifier, but feed language models


def _timm_names() -> Iterator[str]:
    import_torchvision("torchvision")  # before timm does it itself
    timm = pytest.importorskip("timm")
    yield from timm.list_models()


def _fault(config: TrialConfig, shape: tuple[int, int, int]) -> str:
    """Return what is wrong with the net of a config, empty if nothing is."""
    summary = summarize_config(config, shape, CLASSES)
    model = skeleton(config, shape, CLASSES)
    parts = parts_of(model)
    assert parts is not None
    staged = [name for names in parts.stages.values() for name in names]
    head = [
        f"{at}.{name}" for at, module in head_modules(model).items() for name, _ in module.named_parameters()
    ]
    if sorted([*staged, *head]) != sorted(name for name, _ in model.named_parameters()):
        return "stages and head are not all parameters once"
    if not head or len(parts.stages) < 2:
        return f"{len(parts.stages)} stages, head {parts.head}"
    outputs = [module.weight.shape[0] for module in head_modules(model).values()]
    if set(outputs) != {CLASSES}:
        return f"the head {parts.head} is none of classes"
    return "" if summary.params and summary.mult_adds else "nothing is counted"


def test_every_net_of_timm_builds_and_counts() -> None:
    faults = {}
    for name in _timm_names():
        config = TrialConfig(architecture=f"timm/{name}")
        library = registry.architectures[config.architecture].load_library()
        try:
            size = library.inputs(config).size
            faults[name] = _fault(config, (3, size, size))
        except ConfigError as error:
            faults[name] = str(error)
    wrong = {name: fault for name, fault in faults.items() if fault and not name.endswith(ENCODERS)}
    assert wrong == {}
    assert len(faults) > 1000


def test_every_net_of_torchvision_counts_what_torchvision_says() -> None:
    models = import_torchvision("torchvision.models")
    for name in models.list_models(module=models):
        weights = models.get_model_weights(name).DEFAULT
        config = TrialConfig(architecture=f"torchvision/{name}")
        size = registry.architectures[config.architecture].load_library().inputs(config).size
        assert _fault(config, (3, size, size)) == "", name
        summary = summarize_config(config, (3, size, size), 1000)
        if name not in ("googlenet", "inception_v3"):  # for these, it counts the auxiliary classifiers, too
            assert summary.params == weights.meta["num_params"], name
        assert summary.mult_adds / 1e9 == pytest.approx(weights.meta["_ops"], rel=0.02, abs=0.001), name
        assert summarize_config(config, (1, size, size), CLASSES).layers[-1].output_shape, name
