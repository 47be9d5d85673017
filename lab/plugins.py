"""Plug-ins: modules of users that add nets, data, losses and more, each under a name that a config can use.

A plug-in registers what it defines::

    @lab.architecture
    def mlp(shape, classes, *, alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1) -> nn.Module: ...

Keyword-only parameters become settings: `alpha` can be given, varied and searched like any other, for the trials that
use the net. What a module defines can also be named by its path, without registering: `architecture: my_nets:Mlp`.

A plug-in is loaded by `use`, before the config that names it is read. A study keeps the text of a plug-in that is a
single file, and the version of one that is installed, so that every worker trains with the same code (`record`,
`installed`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar, overload

from lab import registry
from lab.errors import ConfigError, LabError
from lab.registry import Entry, Parameter

__all__ = [
    "Plugin",
    "UnusableError",
    "activation",
    "architecture",
    "augmentation",
    "code_digest",
    "dataset",
    "installed",
    "loaded",
    "loss",
    "metric",
    "module_name",
    "optimizer",
    "records",
    "scheduler",
    "trusted",
    "use",
]

Target = TypeVar("Target", bound=Callable[..., Any])

#: The entry points by which an installed package says which of its modules are plug-ins.
GROUP: Final = "lab.plugins"

# Parts of lab's own requirements: their versions are noted in every run, and are the same in every worker.
_REQUIREMENTS: Final = frozenset({"lab", "torch", "torchvision", "timm", "torchmetrics"})
# What lab gives to each kind itself, by position or by these names.
_GIVEN: Final[Mapping[str, frozenset[str]]] = {
    "metric": frozenset({"num_classes", "validate_args"}),
    "optimizer": frozenset({"params", "lr"}),
}
# Of torch's optimizers: how they compute, not what.
_WAYS: Final = frozenset({"capturable", "differentiable", "foreach", "fused", "maximize"})


class UnusableError(LabError):
    """A study's plug-in cannot be used here; says why, to be read after the study's name."""


@dataclass(frozen=True)
class Plugin:
    """What a study keeps of a plug-in; plain values.

    Attributes:
        module: its name, by which Python imports it.
        digest: 16 hex digits that change with its text, or with the package's version.
        text: of a plug-in that is a single file; empty for one of a package.
        package: the distribution that it is from; empty for a file.
        version: of the distribution.
    """

    module: str
    digest: str
    text: str = ""
    package: str = ""
    version: str = ""


_loaded: dict[str, Plugin] = {}
_lock = threading.RLock()
_trusted: ContextVar[bool] = ContextVar("trusted", default=False)
_folders: ContextVar[tuple[Path, ...]] = ContextVar("folders", default=())


# ---- registering


@overload
def architecture(target: Target, /) -> Target: ...
@overload
def architecture(
    name: str | None = None, /, *, options: Iterable[str] = ()
) -> Callable[[Target], Target]: ...
def architecture(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register a net: a function or class (shape [C, H, W], classes) -> nn.Module, [B, C, H, W] -> [B, classes].

    Keyword-only parameters are settings of its own. `options` names settings of lab that it takes as well, as
    keyword arguments. The name is the function's, unless another is given: `@lab.architecture("my-net")`.

    Raises:
        ConfigError: the name is taken, or a parameter lacks its type.
    """
    return _registering("architecture", target, options, plain=True)


@overload
def activation(target: Target, /) -> Target: ...
@overload
def activation(name: str | None = None, /) -> Callable[[Target], Target]: ...
def activation(target: Any = None, /) -> Any:
    """Register an activation: a class or function without arguments that returns an nn.Module; see `architecture`."""
    return _registering("activation", target)


@overload
def optimizer(target: Target, /) -> Target: ...
@overload
def optimizer(name: str | None = None, /, *, options: Iterable[str] = ()) -> Callable[[Target], Target]: ...
def optimizer(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register an optimizer: (params, lr) -> torch.optim.Optimizer; see `architecture`."""
    return _registering("optimizer", target, options)


@overload
def scheduler(target: Target, /) -> Target: ...
@overload
def scheduler(name: str | None = None, /, *, options: Iterable[str] = ()) -> Callable[[Target], Target]: ...
def scheduler(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register a learning-rate schedule: (optimizer) -> torch's LRScheduler, stepped after every epoch.

    See `architecture`; `options=["epochs"]` passes the maximum number of epochs.
    """
    return _registering("scheduler", target, options, plain=True)


@overload
def loss(target: Target, /) -> Target: ...
@overload
def loss(name: str | None = None, /, *, options: Iterable[str] = ()) -> Callable[[Target], Target]: ...
def loss(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register a loss: (images per class, [classes]) -> nn.Module, logits [B, classes] and labels [B] -> mean loss.

    See `architecture`.
    """
    return _registering("loss", target, options)


@overload
def augmentation(target: Target, /) -> Target: ...
@overload
def augmentation(
    name: str | None = None, /, *, options: Iterable[str] = ()
) -> Callable[[Target], Target]: ...
def augmentation(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register an augmentation: (images uint8 [B, C, H, W], torch.Generator) -> images of the same shape.

    One that has a parameter `labels` mixes images, after all others and after normalisation: (images float
    [B, C, H, W], labels float [B, classes], torch.Generator) -> both of the same shapes; a label is the share of each
    class.

    Draw from the generator alone, which is on the CPU: only then can a trial be continued bit for bit. See
    `architecture`.
    """
    return _registering("augmentation", target, options)


@overload
def dataset(target: Target, /) -> Target: ...
@overload
def dataset(name: str | None = None, /, *, options: Iterable[str] = ()) -> Callable[[Target], Target]: ...
def dataset(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register a dataset: a function that returns arrays, a map-style torch Dataset, or a `lab.data.Source`.

    A parameter `data_dir` is the data folder, a Path. See `architecture`, and docs/OWN.md for what it may return.
    """
    return _registering("dataset", target, options)


@overload
def metric(target: Target, /) -> Target: ...
@overload
def metric(
    name: str | None = None, /, *, higher_is_better: bool | None = None
) -> Callable[[Target], Target]: ...
def metric(target: Any = None, /, *, higher_is_better: bool | None = None) -> Any:
    """Register a metric: a torchmetrics.Metric class, or a function that returns one, called with `num_classes`.

    It is updated with probabilities [N, classes] and labels [N]. `higher_is_better` may be an attribute of the class,
    as torchmetrics has it. See `architecture`.
    """
    return _registering("metric", target, higher_is_better=higher_is_better)


def _registering(kind: str, target: Any, options: Iterable[str] = (), **facts: Any) -> Any:
    """Register `target`, or return a decorator that registers under the name that `target` is."""
    if target is not None and not isinstance(target, str):
        _register(kind, target.__name__, target, options, facts)
        return target

    def decorate(decorated: Target) -> Target:
        _register(kind, target or decorated.__name__, decorated, options, facts)
        return decorated

    return decorate


def _register(kind: str, name: str, target: Any, options: Iterable[str], facts: Mapping[str, Any]) -> None:
    known, module = registry.registry_of(kind), _module_of(target)
    options = _options(kind, target, options)
    if name in known and known[name].module == module and _is_again(known[name].target, target):
        known.remove(known[name].name)  # a notebook's cell that is run again, or a module that is reloaded
    own = _parameters(kind, name, target, options)
    entry = Entry(name, target, tuple(options), parameters=own, module=module, **facts)
    try:
        known.add(entry)
    except ValueError as error:
        raise ConfigError(f"{error}; give it another name: @lab.{kind}('my_{name}')") from None


def _options(kind: str, target: Any, options: Iterable[str]) -> tuple[str, ...]:
    """Return the settings of lab that a target takes: a dataset's always have those for its images."""
    is_source = hasattr(target, "describe") and hasattr(target, "load")
    more = registry.OWN_DATASET_OPTIONS if kind == "dataset" and not is_source else ()
    return tuple(dict.fromkeys((*options, *more)))


def _is_again(one: Any, other: Any) -> bool:
    return bool(getattr(one, "__qualname__", one) == getattr(other, "__qualname__", other))


def _module_of(target: Any) -> str:
    """Return the module that defines `target`; empty if it is the main script or a notebook."""
    name: str = getattr(target, "__module__", "") or ""
    return "" if name == "__main__" else name


def _parameters(kind: str, name: str, target: Any, options: Iterable[str]) -> dict[str, Parameter]:
    """Return the settings of a target's own: its keyword-only parameters.

    Raises:
        ConfigError: one of them lacks its type.
    """
    if not callable(target):
        return {}  # a dataset that is there already
    found = {}
    for parameter in _signature(kind, name, target).parameters.values():
        given = parameter.name in options or parameter.name in _GIVEN.get(kind, ())
        if given or parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.annotation is inspect.Parameter.empty:
            raise ConfigError(
                f"{kind} '{name}': its parameter {parameter.name} needs a type, as in `{parameter.name}: float = 0.1`"
            )
        found[parameter.name] = _parameter(parameter)
    return found


def _signature(kind: str, name: str, target: Any) -> inspect.Signature:
    try:
        return inspect.signature(target, eval_str=True)
    except (ValueError, TypeError, NameError) as error:
        raise ConfigError(f"{kind} '{name}': its parameters cannot be read: {error}") from None


def _parameter(parameter: inspect.Parameter) -> Parameter:
    given = parameter.default is not inspect.Parameter.empty
    return Parameter(parameter.annotation, parameter.default if given else ...)


# ---- loading


def use(*names: str, folder: str | Path | None = None) -> list[str]:
    """Load plug-ins, so that configs can use what they define; those already loaded are left as they are.

    Args:
        names: of modules that Python can import, or paths of `.py` files.
        folder: where else than in the working directory modules and paths are looked for.

    Returns:
        The modules' names.

    Raises:
        ConfigError: there is no such module, or it raises an error; names its line.
    """
    with _lock, trusted(folder):
        return [_use(name, (*_folders.get(), Path())) for name in names]


def module_name(name: str) -> str:
    """Return the name of the module that `use` loads for a name or path."""
    return Path(name).stem if _is_path(name) else name


@contextmanager
def trusted(folder: str | Path | None = None) -> Iterator[None]:
    """Let configs that are read inside the block load plug-ins: a person at this machine has written them.

    Args:
        folder: of the file that is read, where its plug-ins are looked for first.
    """
    folders = () if folder is None else (Path(folder),)
    tokens = _trusted.set(True), _folders.set((*folders, *_folders.get()))
    try:
        yield
    finally:
        _trusted.reset(tokens[0])
        _folders.reset(tokens[1])


def loaded() -> list[str]:
    """Return the modules that are loaded as plug-ins."""
    return list(_loaded)


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _use(name: str, folders: Iterable[Path]) -> str:
    module = module_name(name)
    if not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"'{name}' cannot be the name of a module; rename the file")
    if _is_path(name):
        file = next(
            (each for folder in folders if (each := folder / Path(name).expanduser()).is_file()), None
        )
        if file is None:
            raise ConfigError(f"there is no file {name}")
        _load_file(module, file.resolve())
    elif module not in _loaded:
        file = next((each for folder in folders if (each := folder / f"{name}.py").is_file()), None)
        if file is not None:
            _load_file(module, file.resolve())
        else:
            _load_module(module)
    return module


def _load_file(module: str, file: Path) -> None:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    plugin = Plugin(module, _digest(text), text)
    if _loaded.get(module) != plugin:
        _execute(plugin, file)


def _execute(plugin: Plugin, file: Path) -> None:
    """Run a plug-in's file as its module, in place of an earlier text of it.

    Raises:
        ConfigError: another module has its name, or it raises an error.
    """
    name, other = plugin.module, sys.modules.get(plugin.module)
    if other is not None and name not in _loaded and not _is_of_file(other, file):
        raise ConfigError(
            f"{file} has the name of the module {name}, which is loaded already; rename the file"
        )
    registry.forget(name)
    _loaded.pop(name, None)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # for a file that ends in .py, there is one
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        code = compile(plugin.text, str(file), "exec")  # the very text that is recorded
        try:
            exec(code, module.__dict__)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            _make_torchvision_usable()
            exec(code, module.__dict__)
    except BaseException as error:
        sys.modules.pop(name, None)
        registry.forget(name)
        raise _explained(name, error, str(file)) from error
    _loaded[name] = plugin


def _make_torchvision_usable() -> None:
    """Import torchvision so that a plug-in can, too, also where its build is not that of torch."""
    from lab.torchvision_import import import_torchvision  # it imports torch, which takes seconds

    import_torchvision()


def _is_of_file(module: ModuleType, file: Path) -> bool:
    own = getattr(module, "__file__", None)
    return own is not None and Path(own).resolve() == file


def _load_module(name: str) -> None:
    """Import a module of a package, or a file that Python finds.

    Raises:
        ConfigError: there is none, or it raises an error.
    """
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ConfigError(
            f"there is no plug-in '{name}': neither a file {name}.py here, nor an installed package. "
            "Write a path such as ./my_nets.py, or install its package"
        )
    package, version = _distribution(name)
    if (
        not package
        and spec.origin
        and spec.origin.endswith(".py")
        and "." not in name
        and not spec.submodule_search_locations
    ):
        _load_file(name, Path(spec.origin).resolve())
        return
    if not package:
        raise ConfigError(
            f"{name} is a package that is not installed, so that workers elsewhere cannot have the same; "
            "install it with pip, or put what it defines into a single file"
        )
    try:
        importlib.import_module(name)
    except Exception as error:
        raise _explained(name, error, spec.origin or "") from error
    _loaded[name] = Plugin(name, _digest(f"{package}=={version}"), "", package, version)


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _distribution(module: str) -> tuple[str, str]:
    """Return the distribution that a module is from, and its version; empty if from none."""
    found = _distributions().get(module.partition(".")[0], [])
    return (found[0], metadata.version(found[0])) if found else ("", "")


def _digest(text: str) -> str:
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()[:16]


def _explained(name: str, error: BaseException, file: str) -> BaseException:
    """Return the error that tells the user where a plug-in fails; what asks to stop, as it is."""
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, LabError):
        return ConfigError(f"{name}: {error}")
    line = next(
        (
            f", line {frame.lineno}"
            for frame in reversed(inspect.getinnerframes(error.__traceback__))
            if frame.filename == file
        )
        if error.__traceback__ is not None
        else iter(()),
        f", line {error.lineno}" if isinstance(error, SyntaxError) else "",
    )
    return ConfigError(f"{name} cannot be loaded ({file}{line}): {type(error).__name__}: {error}")


# ---- names that no registry knows: paths, and what installed packages define


def _look(known: registry.Registry, name: str) -> bool:
    if ":" in name:
        return _add_path(known, name)
    return _load_installed()


@cache
def _load_installed() -> bool:
    """Load the plug-ins of installed packages, once; whoever installs one wants it."""
    points = metadata.entry_points(group=GROUP)
    for point in points:
        if point.module not in _loaded:
            _load_module(point.module)
    return bool(points)


def _add_path(known: registry.Registry, path: str) -> bool:
    """Add what `path`, as `module:attribute`, names.

    Raises:
        ConfigError: it may not be loaded here, or there is none.
    """
    name, _, attribute = path.partition(":")
    is_part = name.partition(".")[0] in _REQUIREMENTS
    if not is_part and name not in _loaded:
        if not _trusted.get():
            raise ConfigError(f"{known.kind} '{path}' is of a plug-in that is not loaded: --use {name}")
        with _lock:
            _use(name, (*_folders.get(), Path()))
    module = importlib.import_module(name)
    target = getattr(module, attribute, None)
    if not callable(target):
        near = registry.suggest(attribute, [each for each in vars(module) if callable(getattr(module, each))])
        raise ConfigError(f"{known.kind} '{path}': {name} defines no {attribute}.{near}")
    options, parameters = _of_path(known, path, target)
    plain = known.kind in ("architecture", "scheduler")
    module_kept = "" if is_part else name
    known.add(Entry(path, target, options, parameters=parameters, module=module_kept, plain=plain))
    return True


def _of_path(
    known: registry.Registry, path: str, target: Any
) -> tuple[tuple[str, ...], dict[str, Parameter]]:
    """Return the settings of lab that a target takes, by the names that others of its kind have, and those of its own.

    An optimizer's are all its parameters, since torch's need not be given by keyword.
    """
    shared = set(known.options)
    if known.kind != "optimizer":
        names = _signature(known.kind, path, target).parameters
        options = tuple(
            name
            for name, each in names.items()
            if name in shared and each.kind is inspect.Parameter.KEYWORD_ONLY
        )
        options = _options(known.kind, target, options)
        return options, _parameters(known.kind, path, target, options)
    found = {
        name: each
        for name, each in _signature(known.kind, path, target).parameters.items()
        if name not in _GIVEN[known.kind] | _WAYS
    }
    own = {
        name: _parameter(each)
        for name, each in found.items()
        if name not in shared
        and each.annotation is not inspect.Parameter.empty
        and each.default is not each.empty
    }
    return tuple(name for name in found if name in shared), own


registry.look_further(_look)


# ---- what a study keeps of them


def records(modules: Iterable[str]) -> list[dict[str, Any]]:
    """Return what a study keeps of these plug-ins, as plain values for `installed`."""
    return [asdict(_loaded[module]) for module in sorted(set(modules)) if module in _loaded]


def code_digest(modules: Iterable[str]) -> str | None:
    """Return the digest of the code of several plug-ins, 16 hex digits; None for none."""
    digests = [f"{module}={_plugin(module).digest}" for module in sorted(set(modules))]
    return _digest("\n".join(digests)) if digests else None


def _plugin(module: str) -> Plugin:
    """Return a plug-in, also one that a program has imported by itself."""
    with _lock:
        if module not in _loaded:
            _loaded[module] = _imported(module)
        return _loaded[module]


def _imported(name: str) -> Plugin:
    package, version = _distribution(name)
    if package:
        return Plugin(name, _digest(f"{package}=={version}"), "", package, version)
    try:
        text = inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):
        text = ""
    return Plugin(name, _digest(text), text)


@contextmanager
def installed(kept: Iterable[Mapping[str, Any]], *, allowed: bool) -> Iterator[None]:
    """Have exactly the plug-ins of a study inside the block, as it has kept them.

    Args:
        kept: from `records`.
        allowed: whether code from the study's database may run here; installed packages may in any case.

    Raises:
        UnusableError: code may not run here, or a package is missing or has another version; says what to do.
    """
    plugins = [Plugin(**each) for each in kept]
    for plugin in plugins:
        _check(plugin, allowed=allowed)
    before = dict(_loaded)
    try:
        with _lock:
            for plugin in plugins:
                _install(plugin)
        yield
    finally:
        with _lock:
            for plugin in plugins:
                if _loaded.get(plugin.module) != before.get(plugin.module):
                    _take_out(plugin.module, before.get(plugin.module))


def _check(plugin: Plugin, *, allowed: bool) -> None:
    if plugin.package:
        try:
            here = metadata.version(plugin.package)
        except metadata.PackageNotFoundError:
            here = ""
        if here != plugin.version:
            has = f"version {here} is" if here else "none is"
            raise UnusableError(
                f"needs the plug-in {plugin.module} of {plugin.package} {plugin.version}, but {has} installed here: "
                f"pip install '{plugin.package}=={plugin.version}'"
            )
    elif not allowed and _loaded.get(plugin.module) != plugin:
        raise UnusableError(
            f"brings code of its own, the plug-in {plugin.module}; if you trust those who can submit to this database, "
            "start the worker with --allow-code"
        )


def _install(plugin: Plugin) -> None:
    if _loaded.get(plugin.module) == plugin:
        return
    if plugin.package:
        _load_module(plugin.module)
        return
    folder = Path(tempfile.mkdtemp(prefix="lab-plugin-"))  # for tracebacks, and for processes that are forked
    file = folder / f"{plugin.module}.py"
    file.write_text(plugin.text, encoding="utf-8")
    _execute(plugin, file)


def _take_out(module: str, earlier: Plugin | None) -> None:
    registry.forget(module)
    _loaded.pop(module, None)
    sys.modules.pop(module, None)
    if earlier is not None:
        _install(earlier)
