"""All nets of timm (the extra `timm`), adapted to the images and the number of classes.

A name may have the tag of its weights, as timm writes it: `timm/convnext_atto.d2_in1k`.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.config import TrialConfig
from lab.data.inputs import Inputs
from lab.errors import ConfigError, Fault, MissingDataError
from lab.extras import require
from lab.models.library import Pretrained
from lab.models.parts import Parts, last_classifier, parts_from_children, parts_from_groups, set_parts
from lab.models.reading import fetched, first_difference, reason
from lab.torchvision_import import import_torchvision

__all__ = ["LIBRARY", "build"]

_COLOURS = 3

# The nets that turned out to be made without the size of their images.
_sizeless: set[str] = set()

# What timm's constructors raise for sizes, channels or classes that a net cannot have.
_REFUSALS = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)

# The names under which Hugging Face's hub has a net's weights, the safest first.
_HUB_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)


def build(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the net of timm that `config` names, [B, C, H, W] -> [B, classes], with random weights.

    Raises:
        LabError: timm is not installed.
        ConfigError: the net cannot be made for such images.
    """
    net: nn.Module = _create(config, shape, classes)
    set_parts(net, _parts(net))
    return net


class _Timm:
    def names(self) -> frozenset[str] | None:
        return _names() if importlib.util.find_spec("timm") else None

    def inputs(self, config: TrialConfig) -> Inputs:
        about = _about(config)
        weights = config.architecture
        if about.tag and f".{about.tag}" not in weights:
            weights += f".{about.tag}"
        return Inputs(weights, int(about.input_size[-1]), tuple(about.mean), tuple(about.std))

    def source(self, config: TrialConfig) -> str:
        about = _about(config)
        if about.hf_hub_id:
            return f"https://huggingface.co/{about.hf_hub_id}"
        if isinstance(about.url, str) and about.url:
            return str(about.url)
        tagged = [f"{_name(config).partition('.')[0]}.{tag}" for tag in _tags(config)]
        names = [f"timm/{name}" for name in tagged if name in _names() and name != _name(config)]
        hint = f"; there are some for {', '.join(names[:5])}" if names else ""
        message = (
            f"timm publishes no weights for {config.architecture}{hint}. Give a file, or leave pretrained out"
        )
        raise ConfigError(Fault(message, "pretrained"))

    def published(self, config: TrialConfig, *, download: bool) -> Path | None:
        about = _about(config)
        if about.hf_hub_id:
            return _in_hub(about, download)
        return fetched(self.source(config), download)

    def fit(
        self, config: TrialConfig, weights: Mapping[str, Tensor], shape: tuple[int, int, int], classes: int
    ) -> Pretrained:
        about = _about(config)
        heads = _heads(about.classifier)
        count, offset = _classes_in(weights, heads, about), about.label_offset or 0
        overlay: dict[str, Any] = {"state_dict": dict(weights), "num_classes": count, "label_offset": None}
        if offset and count == about.num_classes + offset:  # one more class, which timm cuts off
            count = overlay["num_classes"] = about.num_classes
            overlay["label_offset"] = offset
        try:
            # Its own loading converts the names in the file, the first convolution and the position embeddings.
            net = _create(config, shape, count, pretrained=True, pretrained_cfg_overlay=overlay)
        except _REFUSALS as error:
            with torch.device("meta"):
                net = _create(config, (_COLOURS, *shape[1:]), count)
            raise ValueError(first_difference(net.state_dict(), weights) or reason(error)) from None
        tensors, new_head = net.state_dict(), count != classes
        if new_head:
            tensors = {
                n: t for n, t in tensors.items() if not n.startswith(tuple(f"{head}." for head in heads))
            }
        return Pretrained(tensors, new_head)


LIBRARY = _Timm()


def _timm() -> Any:
    """Return timm.

    Raises:
        LabError: it is not installed.
    """
    import_torchvision("torchvision")  # timm imports it too, which fails with some builds of torch
    return require("timm", "timm", "A net of timm")


@functools.cache
def _names() -> frozenset[str]:
    timm = _timm()
    return frozenset([*timm.list_models(), *timm.list_pretrained()])


def _name(config: TrialConfig) -> str:
    return config.architecture.removeprefix("timm/")


def _about(config: TrialConfig) -> Any:
    """Return what timm knows about the net and its weights, a `PretrainedCfg`."""
    return _timm().get_pretrained_cfg(_name(config))


def _tags(config: TrialConfig) -> list[str]:
    return list(_timm().models.get_arch_pretrained_cfgs(_name(config).partition(".")[0]))


def _heads(classifier: Any) -> tuple[str, ...]:
    return (classifier,) if isinstance(classifier, str) else tuple(classifier or ())


def _classes_in(weights: Mapping[str, Tensor], heads: tuple[str, ...], about: Any) -> int:
    """Return the number of classes of the head in a state dict; the usual one if its names are not timm's."""
    found = [len(weights[f"{head}.weight"]) for head in heads if f"{head}.weight" in weights]
    return found[0] if found else int(about.num_classes)


def _create(config: TrialConfig, shape: tuple[int, int, int], classes: int, **more: Any) -> Any:
    """Return timm's net for images of `shape`; `more` goes to `timm.create_model`.

    Raises:
        ConfigError: it cannot be made.
    """
    channels, height, width = shape
    create, name = _timm().create_model, _name(config)
    size: Any = height if height == width else (height, width)
    try:
        if name not in _sizeless:
            try:
                return create(name, img_size=size, num_classes=classes, in_chans=channels, **more)
            except TypeError as error:
                if "img_size" not in str(error):
                    raise
                _sizeless.add(name)
        return create(name, num_classes=classes, in_chans=channels, **more)
    except _REFUSALS as error:
        if more:
            raise
        images = "×".join(map(str, shape))
        message = f"{config.architecture} cannot be made for images of {images}: {reason(error)}"
        raise ConfigError(Fault(message, "architecture")) from None


def _parts(net: Any) -> Parts:
    heads = tuple(name for name in _heads(net.pretrained_cfg.get("classifier")) if _has(net, name))
    heads = heads or last_classifier(net)
    if not hasattr(net, "group_matcher"):
        return parts_from_children(net, heads)
    try:
        matcher = net.group_matcher(coarse=True)
    except AssertionError:  # this net only has finer groups
        matcher = net.group_matcher()
    manipulate = importlib.import_module("timm.models._manipulate")
    groups = manipulate.group_with_matcher(net.named_parameters(), matcher)
    return parts_from_groups(groups.values(), heads)


def _has(net: nn.Module, name: str) -> bool:
    try:
        return next(net.get_submodule(name).parameters(), None) is not None
    except AttributeError:
        return False


def _in_hub(about: Any, download: bool) -> Path | None:
    """Return the file in the cache of Hugging Face's hub, after downloading it if that is allowed."""
    hub = require("huggingface_hub", "timm", "timm")
    repository, _, revision = about.hf_hub_id.partition("@")
    files = [about.hf_hub_filename] if about.hf_hub_filename else list(_HUB_FILES)
    for file in files:
        found = hub.try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return _downloaded(hub, repository, files, revision or None) if download else None


def _downloaded(hub: Any, repository: str, files: list[str], revision: str | None) -> Path:
    address = f"https://huggingface.co/{repository}"
    try:
        found = next((file for file in files if _exists(hub, repository, file, revision)), None)
        if found is not None:
            return Path(hub.hf_hub_download(repository, found, revision=revision))
    except (OSError, hub.errors.HTTPError) as error:
        raise MissingDataError(f"{address} cannot be downloaded: {reason(error)}") from None
    raise MissingDataError(f"{address} has none of the files {', '.join(files)}")


def _exists(hub: Any, repository: str, file: str, revision: str | None) -> bool:
    """Whether the hub has this file; fails at once without a network, where a download is tried for half a minute."""
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file, revision=revision))
    except hub.errors.EntryNotFoundError:
        return False
    return True
