"""Loading plug-ins: files and modules of packages, by name, path or entry point."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import tokenize
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from lab import registry
from lab.errors import ConfigError, LabError
from lab.plugins.parameters import of_path
from lab.registry import Entry, Registry

__all__ = [
    "Plugin",
    "digest_of",
    "distribution_of",
    "execute",
    "is_declared",
    "is_of",
    "load_module",
    "loaded",
    "loaded_plugins",
    "lock",
    "look",
    "module_name",
    "origin",
    "trusted",
    "use",
    "use_installed",
]

#: The entry points by which an installed package says which of its modules are plug-ins.
GROUP: Final = "lab.plugins"

# Parts of lab's own requirements: their versions are noted in every run, and need not be the same in every worker.
_REQUIREMENTS: Final = frozenset({"lab", "torch", "torchvision", "timm", "torchmetrics"})
# What of them can be named by path, also by what nobody here has written: only classes of these, which do nothing but
# what they are for. Functions could be any, such as those that load pickles.
_CLASSES: Final[Mapping[str, str]] = {
    "activation": "torch.nn:Module",
    "architecture": "torch.nn:Module",
    "dataset": "torch.utils.data:Dataset",
    "loss": "torch.nn:Module",
    "metric": "torchmetrics:Metric",
    "optimizer": "torch.optim:Optimizer",
    "scheduler": "torch.optim.lr_scheduler:LRScheduler",
}


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


loaded_plugins: dict[str, Plugin] = {}
lock = threading.RLock()
_trusted: ContextVar[bool] = ContextVar("trusted", default=False)
_folders: ContextVar[tuple[Path, ...]] = ContextVar("folders", default=())


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
    with lock, trusted(folder):
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
    return list(loaded_plugins)


def origin(module: str) -> str:
    """Return what makes `use` load a plug-in from here once more: the path of its file, or the module's name."""
    if loaded_plugins[module].package:
        return module
    file, here = Path(str(sys.modules[module].__file__)), Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _use(name: str, folders: Iterable[Path]) -> str:
    module = module_name(name)
    if not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"'{name}' cannot be the name of a module; rename the file")
    if _is_path(name):
        file = _found(Path(name).expanduser(), folders)
        if file is None:
            raise ConfigError(f"there is no file {name}")
        _load_file(module, file.resolve())
    elif module not in loaded_plugins:
        file = _found(Path(f"{name}.py"), folders)
        if file is not None:
            _load_file(module, file.resolve())
        else:
            load_module(module)
    return module


def _found(path: Path, folders: Iterable[Path]) -> Path | None:
    """Return the first file at a path relative to one of the folders; None also for a name that no file can have."""
    return next((each for folder in folders if os.path.isfile(each := folder / path)), None)


def _load_file(module: str, file: Path) -> None:
    try:
        with tokenize.open(file) as source:  # in the encoding that Python would read it in
            text = source.read()
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    plugin = Plugin(module, digest_of(text), text)
    if loaded_plugins.get(module) != plugin:
        execute(plugin, file)


def execute(plugin: Plugin, file: Path) -> None:
    """Run a plug-in's file as its module, in place of an earlier text of it.

    Raises:
        ConfigError: another module has its name, or it raises an error.
    """
    name, other = plugin.module, sys.modules.get(plugin.module)
    is_loaded = other is not None and name not in loaded_plugins and not _is_of_file(other, file)
    if is_loaded or name in _REQUIREMENTS or name in sys.stdlib_module_names:
        why = "which is loaded already" if is_loaded else "which Python or lab may need later"
        raise ConfigError(f"{file} has the name of the module {name}, {why}; rename the file")
    registry.forget(name)
    loaded_plugins.pop(name, None)
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
    loaded_plugins[name] = plugin


def _make_torchvision_usable() -> None:
    """Import torchvision so that a plug-in can, too, also where its build is not that of torch."""
    from lab.torchvision_import import import_torchvision  # it imports torch, which takes seconds

    import_torchvision()


def _is_of_file(module: ModuleType, file: Path) -> bool:
    own = getattr(module, "__file__", None)
    return own is not None and Path(own).resolve() == file


def load_module(name: str) -> None:
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
    package, version = distribution_of(name)
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
    except BaseException as error:
        raise _explained(name, error, spec.origin or "") from error
    loaded_plugins[name] = Plugin(name, digest_of(f"{package}=={version}"), "", package, version)


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def distribution_of(module: str) -> tuple[str, str]:
    """Return the distribution that a module is from, and its version; empty if from none."""
    found = _distributions().get(module.partition(".")[0], [])
    return (found[0], metadata.version(found[0])) if found else ("", "")


def is_of(module: str, distribution: str) -> bool:
    """Return whether a module is from a distribution that is installed here."""
    return distribution in _distributions().get(module.partition(".")[0], [])


def digest_of(text: str) -> str:
    """Return 16 hex digits that change with a text, but not with the ends of its lines."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()[:16]


def _explained(name: str, error: BaseException, file: str) -> BaseException:
    """Return the error that tells the user where a plug-in fails; what asks to stop, as it is."""
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, LabError):
        return ConfigError(f"{name}: {error}")
    lines = [
        number for frame, number in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file
    ]
    if not lines and isinstance(error, SyntaxError) and error.lineno is not None:
        lines = [error.lineno]
    line = f", line {lines[-1]}" if lines else ""
    return ConfigError(f"{name} cannot be loaded ({file}{line}): {type(error).__name__}: {error}")


def look(known: Registry, name: str) -> bool:
    """Add a name that a registry lacks, if it is a path or of an installed package; return whether any was added.

    Raises:
        ConfigError: it is a path, and it may not be loaded here, or there is none.
    """
    if ":" in name:
        return _add_path(known, name)
    return use_installed()


@cache
def use_installed() -> bool:
    """Load the plug-ins of installed packages, once: whoever installs one wants it. Return whether there are any.

    Raises:
        ConfigError: one raises an error; names its line.
    """
    points = metadata.entry_points(group=GROUP)
    for point in points:
        if point.module not in loaded_plugins:
            load_module(point.module)
    return bool(points)


def _add_path(known: Registry, path: str) -> bool:
    """Add what `path`, as `module:attribute`, names.

    Raises:
        ConfigError: it may not be loaded here, or there is none.
    """
    name, _, attribute = path.partition(":")
    is_part = name.partition(".")[0] in _REQUIREMENTS
    if not is_part and name not in loaded_plugins:
        if not _trusted.get():
            raise ConfigError(f"{known.kind} '{path}' is of a plug-in that is not loaded: --use {name}")
        with lock:
            _use(name, (*_folders.get(), Path()))
    module = _import_part(known, path) if is_part else importlib.import_module(name)
    target = getattr(module, attribute, None)
    if not callable(target):
        near = registry.suggest(attribute, [each for each in vars(module) if callable(getattr(module, each))])
        raise ConfigError(f"{known.kind} '{path}': {name} defines no {attribute}.{near}")
    if is_part:
        _check_part(known, path, target)
    options, parameters = of_path(known, path, target)
    plain = known.kind in ("architecture", "scheduler")
    module_kept = "" if is_part else name
    known.add(Entry(path, target, options, parameters=parameters, module=module_kept, plain=plain))
    return True


def _import_part(known: Registry, path: str) -> ModuleType:
    """Import a module of lab's requirements.

    Raises:
        ConfigError: there is none, or it is not installed.
    """
    name = path.partition(":")[0]
    try:
        if name.partition(".")[0] != "torch":
            _make_torchvision_usable()  # the others import it
        return importlib.import_module(name)
    except Exception as error:
        raise ConfigError(f"{known.kind} '{path}': {name} cannot be imported: {error}") from error


def _check_part(known: Registry, path: str, target: Any) -> None:
    """Check that a part of lab's requirements is of the kind that it is named for.

    Raises:
        ConfigError: it is something else.
    """
    base = _CLASSES.get(known.kind, "")
    module, _, attribute = base.partition(":")
    if not (
        base
        and isinstance(target, type)
        and issubclass(target, getattr(importlib.import_module(module), attribute))
    ):
        need = f"is no {base.replace(':', '.')}" if base else "is no plug-in"
        raise ConfigError(
            f"{known.kind} '{path}' {need}: wrap it in a function of yours, registered with @lab.{known.kind}"
        )


def is_declared(module: str) -> bool:
    """Return whether an installed package says that a module is a plug-in of lab, or registers names from it.

    Raises:
        ConfigError: as `use_installed`.
    """
    points = metadata.entry_points(group=GROUP)
    return any(point.module == module for point in points) or (
        use_installed() and registry.has_names_of(module)
    )
