"""Plug-ins: modules of users, their names and settings, and what a study keeps of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lab import plugins, registry
from lab.config import TrialConfig, load_config, parse_config, parse_values
from lab.errors import ConfigError
from lab.plugins import kept, loading
from lab.training.optimizers import build_optimizer
from lab.training.schedulers import build_schedule

NET = """
from typing import Annotated, Literal

import lab
from pydantic import Field
from torch import nn


@lab.architecture
def own_mlp(
    shape,
    classes,
    *,
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    hidden: tuple[int, ...] = (16,),
    kind: Literal["plain", "wide"] | None = None,
):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden[0]), nn.LeakyReLU(alpha), nn.Linear(hidden[0], classes))


class Tiny(nn.Module):
    def __init__(self, shape, classes, *, beta: int):
        super().__init__()
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Return what writes a plug-in into the working directory; those that were loaded are taken out again."""
    monkeypatch.chdir(tmp_path)
    before = dict(loading.loaded_plugins)

    def written(text: str = NET, name: str = "own_nets") -> Path:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        return file

    yield written
    for module in loading.loaded_plugins.keys() - before.keys():
        kept._take_out(module)


def refused(brought: dict[str, str], message: str, **permission: Any) -> None:
    with (
        pytest.raises(plugins.UnusableError, match=message),
        plugins.installed([brought], **permission),
    ):
        pass


def test_a_file_is_found_by_path_and_by_name(write: Write) -> None:
    file = write()
    assert plugins.use(str(file)) == ["own_nets"]
    assert plugins.use("own_nets") == plugins.use("./own_nets.py") == ["own_nets"]
    assert registry.architectures["own-MLP"].module == "own_nets"


def test_a_file_is_read_as_python_reads_it(write: Write) -> None:
    file = write(f"# from an editor of Windows\n{NET}")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    plugins.use("own_nets")
    before = loading.loaded_plugins["own_nets"]
    write(f"# from an editor of Windows\n{NET}")
    plugins.use("./own_nets.py")
    assert loading.loaded_plugins["own_nets"] == before
    file.write_bytes("# coding: latin-1\nname = 'Mädchen'\n".encode("latin-1"))
    plugins.use("./own_nets.py")
    assert sys.modules["own_nets"].name == "Mädchen"
    for strange in (b"# \xff", b"# coding: klingon"):
        file.write_bytes(strange)
        with pytest.raises(ConfigError, match=r"own_nets\.py cannot be read: "):
            plugins.use("./own_nets.py")


def test_its_parameters_are_settings(write: Write) -> None:
    write()
    plugins.use("own_nets")
    config = TrialConfig(architecture="own_mlp", alpha=0.2, hidden=[32])
    assert (config.alpha, config.hidden, config.kind) == (0.2, (32,), None)
    assert config.as_values()["hidden"] == [32]
    assert config.as_params()["alpha"] == "0.2"
    assert config.use == ("own_nets",)
    assert parse_config(config.as_values()) == parse_config(parse_values(config.as_params())) == config
    assert config.cell_hash != TrialConfig(architecture="own_mlp", hidden=(32,)).cell_hash


def test_a_default_that_is_given_is_the_same_cell(write: Write) -> None:
    write()
    plugins.use("own_nets")
    given, left_out = TrialConfig(architecture="own_mlp", alpha=0.1), TrialConfig(architecture="own_mlp")
    assert given == left_out
    assert given.cell_hash == left_out.cell_hash


def test_the_settings_of_what_is_not_used_are_left_out(write: Write) -> None:
    plain = TrialConfig()
    write()
    plugins.use("own_nets")
    config = TrialConfig(alpha=0.2, use=("own_nets",))
    assert config == plain
    assert config.cell_hash == plain.cell_hash
    assert "alpha" not in config.as_values()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": 2}, "^alpha: must be less than 1, but got 2$"),
        ({"alpha": "x", "lr": -1}, "alpha: must be a valid number, but got 'x'\nlr: must be greater than 0"),
        ({"kind": "deep"}, "kind: must be 'plain' or 'wide', but got 'deep'"),
        ({"hidden": [1.5]}, "hidden: must be a valid integer, but got 1.5"),
        ({"alhpa": 0.2}, "alhpa: unknown setting. Did you mean 'alpha'?"),
        ({"architecture": "own_mpl"}, "Unknown architecture 'own_mpl'. Did you mean 'own_mlp'?"),
        ({"architecture": "own_nets:Tiny"}, "own_nets:Tiny' needs a value for beta"),
        ({"architecture": "own_nets:Tyny", "beta": 1}, "own_nets defines no Tyny. Did you mean 'Tiny'?"),
    ],
)
def test_they_are_checked_like_all_others(write: Write, values: dict[str, object], message: str) -> None:
    write()
    plugins.use("own_nets")
    with pytest.raises(ConfigError, match=message):
        parse_config({"architecture": "own_mlp", **values})


def test_other_code_is_another_cell(write: Write) -> None:
    write()
    plugins.use("own_nets")
    before = TrialConfig(architecture="own_mlp")
    write(NET.replace("nn.LeakyReLU(alpha)", "nn.ELU(alpha)"))
    plugins.use("./own_nets.py")
    after = TrialConfig(architecture="own_mlp")
    assert before.code_digest != after.code_digest
    assert before.cell_hash != after.cell_hash
    with pytest.raises(
        ConfigError, match=r"code_digest: the code of this trial has the digest .* it has changed since"
    ):
        parse_config(before.as_values())
    with pytest.raises(ConfigError, match="but here none is used: it has changed since; restore it, or"):
        parse_config({"code_digest": before.code_digest})


def test_what_a_file_names_by_path_is_loaded_where_it_is_written(write: Write, tmp_path: Path) -> None:
    write()
    config = tmp_path / "config.yaml"
    config.write_text(
        "{architecture: 'own_nets:Tiny', beta: 3, optimizer: 'torch.optim:RAdam', weight_decay: 0.1}"
    )
    found = load_config(config)
    assert (found.beta, found.optimizer, found.weight_decay, found.eps) == (3, "torch.optim:RAdam", 0.1, 1e-8)
    assert found.use == ("own_nets",)  # torch is everywhere


def test_what_nobody_here_wrote_is_not_loaded(write: Write) -> None:
    write("raise SystemExit('must not run')")
    for values in (
        {"architecture": "own_nets:Tiny"},
        {"use": ("own_nets",), "architecture": "own", "alpha": 1},
    ):
        with pytest.raises(ConfigError, match=r"^\w+: .*plug-in.*is not loaded.*--use.*$"):
            parse_config(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x = 1\n1 / 0",
            "own_nets cannot be loaded .*own_nets.py, line 2.: ZeroDivisionError: division by zero",
        ),
        ("def f(:", "own_nets.py, line 1.: SyntaxError"),
        ("x = 1\0", r"own_nets.py\): (SyntaxError|ValueError): source code string cannot contain null bytes"),
        (
            "import lab\n@lab.loss\ndef l(images, *, beta=1): ...",
            "loss 'l': its parameter beta needs a type, as in",
        ),
        (
            "import lab\n@lab.loss\ndef mse(images): ...",
            "loss 'mse' is already registered; give it another name",
        ),
    ],
)
def test_one_that_cannot_be_loaded_leaves_nothing(write: Write, text: str, message: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=message):
        plugins.use("own_nets")
    assert "own_nets" not in {*sys.modules, *plugins.loaded()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./none.py", "there is no file ./none.py"),
        (
            "no_such_module",
            "there is no plug-in 'no_such_module': neither a file no_such_module.py here, nor",
        ),
        ("my-nets.py", "'my-nets.py' cannot be the name of a module"),
    ],
)
def test_one_that_is_not_there(write: Write, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plugins.use(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("json", "is loaded already"),
        ("wave", "Python or lab may need later"),
        ("timm", "Python or lab may need later"),
    ],
)
def test_a_file_that_has_the_name_of_another_module(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    if name != "json":
        monkeypatch.delitem(sys.modules, name, raising=False)
    write(name=name)
    with pytest.raises(ConfigError, match=f"has the name of the module {name}, which {why}; rename the file"):
        plugins.use(f"./{name}.py")


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            "lr: float = 1",
            r"has a parameter lr, but lab has a setting of that name: Learning rate.*options=\['lr'\]",
        ),
        ("beta: float = Field(1.0)", "the default of beta must be a value; .*beta: Annotated"),
        ("beta: dict = {}", "beta must be of int, float, bool, str, Literal, tuple or None"),
    ],
)
def test_a_parameter_that_cannot_be_a_setting(write: Write, parameter: str, message: str) -> None:
    write(f"import lab\nfrom pydantic import Field\n@lab.loss\ndef odd(images, *, {parameter}): ...")
    plugins.use("own_nets")
    with pytest.raises(ConfigError, match=message):
        TrialConfig(loss="odd")


def test_two_that_mean_different_things_by_a_name(write: Write) -> None:
    write()
    write("import lab\n@lab.loss\ndef steep(images, *, alpha: int = 1): ...", "own_losses")
    plugins.use("own_nets", "own_losses")
    with pytest.raises(
        ConfigError, match="'own_mlp', loss 'steep' mean different things by alpha; rename it"
    ):
        TrialConfig(loss="steep")


def test_each_has_its_own_range_for_a_shared_name(write: Write) -> None:
    write()
    steep = "*, alpha: Annotated[float, Field(ge=1)] = 2.0): ..."
    write(
        f"import lab\nfrom typing import Annotated\nfrom pydantic import Field\n@lab.loss\ndef steep(images, {steep}",
        "own_losses",
    )
    plugins.use("own_nets", "own_losses")
    assert TrialConfig(loss="steep", alpha=3.0).alpha == 3.0
    assert TrialConfig(architecture="own_mlp", alpha=0.3).alpha == 0.3
    with pytest.raises(ConfigError, match=r"alpha: must be less than 1 for 'own_mlp', but got 3\.0$"):
        parse_config({"architecture": "own_mlp", "alpha": 3.0})
    with pytest.raises(
        ConfigError, match=r"alpha: must be greater than or equal to 1 for 'steep', but got 0\.3$"
    ):
        parse_config({"loss": "steep", "alpha": 0.3})
    with pytest.raises(ConfigError, match="'own_mlp' and 'steep' need a value for alpha"):
        parse_config({"architecture": "own_mlp", "loss": "steep"})


def test_a_study_brings_its_code_along(write: Write) -> None:
    file = write()
    plugins.use("own_nets")
    (brought,), digest = plugins.records(["own_nets"]), TrialConfig(architecture="own_mlp").code_digest
    kept._take_out("own_nets")
    file.write_text("raise SystemExit('must not run')")  # another file of the name, on another machine
    with plugins.installed([brought], allowed=True):
        assert TrialConfig(architecture="own_mlp", alpha=0.3).code_digest == digest
    assert "own_mlp" not in registry.architectures
    message = r"brings code of its own, the plug-in own_nets; if you trust .*--allow-code"
    refused(brought, message, allowed=False)


def test_two_studies_bring_different_code_of_one_name(write: Write) -> None:
    write()
    plugins.use("own_nets")
    brought, here = plugins.records(["own_nets"]), TrialConfig(architecture="own_mlp").code_digest
    write(NET.replace("0.1", "0.4"))
    plugins.use("./own_nets.py")
    now = TrialConfig(architecture="own_mlp")
    with plugins.installed(brought, allowed=True):
        assert TrialConfig(architecture="own_mlp").code_digest == here
    assert TrialConfig(architecture="own_mlp") == now


def test_code_that_is_known_needs_no_permission_and_other_code_does(write: Write) -> None:
    write()
    plugins.use("own_nets")
    (brought,) = plugins.records(["own_nets"])
    kept._take_out("own_nets")
    with plugins.installed([brought], allowed=False, known=[brought["digest"]]):
        assert "own_mlp" in registry.architectures
    other = {**brought, "text": "raise SystemExit('must not run')", "digest": "0" * 16}
    refused(other, r"brings code of its own", allowed=False, known=[brought["digest"]])


def test_code_that_does_not_work_here_is_one_error() -> None:
    broken = plugins.Plugin("own_broken", "0" * 16, "import no_such_package")
    message = (
        r"^has a plug-in that does not work here: own_broken cannot be loaded .*line 1.*no_such_package'$"
    )
    refused(broken.__dict__, message, allowed=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"version": "0.1"}, r"numpy 0.1, but version .* here: pip install 'numpy==0.1'"),
        (
            {"package": "no-such-package", "version": "0.1"},
            r"no-such-package 0.1, but none is installed here: pip install",
        ),
        ({"module": "subprocess"}, r"subprocess is of numpy, which has no such module here"),
        ({}, r"takes numpy for a plug-in, .* numpy does not say .*--allow-code"),
    ],
    ids=["other version", "absent", "disguised", "undeclared"],
)
def test_a_package_must_be_the_one_of_the_study(given: dict[str, str], message: str) -> None:
    numpy = plugins.Plugin("numpy", "0" * 16, package="numpy", version=metadata.version("numpy"))
    refused(replace(numpy, **given).__dict__, message, allowed=False)


def test_a_cell_of_a_notebook_can_be_run_again() -> None:
    def made() -> Callable[..., None]:
        @plugins.activation("own-activation")
        def activation() -> None: ...

        return activation

    try:
        first, second = made(), made()
        assert registry.activations["own_activation"].target is second
        assert first is not second
    finally:
        registry.activations.remove("own-activation")


def test_other_code_in_a_script_is_another_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(images: object) -> None:
        """Nothing."""

    def second(images: object) -> None:
        """Nothing either."""

    digests = []
    for target in (first, second):
        target.__module__ = "__main__"
        plugins.loss("script's loss")(target)
        try:
            digests.append(TrialConfig(loss="script's loss").code_digest)
        finally:
            registry.losses.remove("script's loss")
    assert None not in digests
    assert len(set(digests)) == 2


@pytest.mark.parametrize(
    "name", ["Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SGD", "RMSprop", "Rprop", "ASGD"]
)
def test_torchs_optimizers_are_named_by_their_path(name: str) -> None:
    config = TrialConfig(optimizer=f"torch.optim:{name}")
    model = nn.Linear(2, 2)
    assert type(build_optimizer(config, model.parameters())).__name__ == name


def test_torchs_schedulers_are_named_by_their_path() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "torch.optim.lr_scheduler:CosineAnnealingWarmRestarts"
    with pytest.raises(ConfigError, match="needs a value for T_0"):
        parse_config({"scheduler": name})
    schedule = build_schedule(parse_config({"scheduler": name, "T_0": 3}), optimizer, 1)
    assert schedule.scheduler.T_0 == 3  # type: ignore[attr-defined]
    with pytest.raises(
        ConfigError, match="must be given lr_lambda, which no config can hold: wrap it in a function"
    ):
        parse_config({"scheduler": "torch.optim.lr_scheduler:LambdaLR"})


@pytest.mark.parametrize(
    ("setting", "path", "message"),
    [
        (
            "loss",
            "torch:load",
            "is no torch.nn.Module: wrap it in a function of yours, registered with @lab.loss",
        ),
        ("dataset", "torch.hub:load_state_dict_from_url", "is no torch.utils.data.Dataset: wrap it"),
        (
            "scheduler",
            "torch.utils.collect_env:run_and_read_all",
            "is no torch.optim.lr_scheduler.LRScheduler",
        ),
        ("activation", "lab:sweep", "is no torch.nn.Module"),
        ("augment", "torch:flip", "is no plug-in: wrap it"),
        (
            "optimizer",
            "torch.nothing:Adam",
            "torch.nothing cannot be imported: No module named 'torch.nothing'",
        ),
    ],
)
def test_of_torch_only_classes_of_the_kind_are_named(setting: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"'{path}'.*{message}"):
        parse_config({setting: [path] if setting == "augment" else path})


def test_what_is_registered_can_be_named_by_its_path_too(write: Write) -> None:
    write()
    plugins.use("own_nets")
    by_name, by_path = (TrialConfig(architecture=name, alpha=0.2) for name in ("own_mlp", "own_nets:own_mlp"))
    assert by_name.own_values() == by_path.own_values()
