"""What a study keeps of the plug-ins that its trials use, and using it in a worker."""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from lab import registry
from lab.errors import ConfigError, LabError
from lab.plugins import loading
from lab.plugins.loading import Plugin

__all__ = ["UnusableError", "code_digest", "installed", "is_record", "records"]


_ALLOW: Final = (
    "if you trust those who can submit to this database, "
    "start the worker with --allow-code or LAB_ALLOW_CODE=true"
)


class UnusableError(LabError):
    """A study's plug-in cannot be used here; says why, to be read after the study's name."""


def records(modules: Iterable[str]) -> list[dict[str, Any]]:
    """Return what a study keeps of these plug-ins, as plain values for `installed`."""
    return [
        asdict(loading.loaded_plugins[module])
        for module in sorted(set(modules))
        if module in loading.loaded_plugins
    ]


def is_record(value: Any) -> bool:
    """Return whether a value has the form of one of `records`, and its digest is that of its text."""
    if not (isinstance(value, dict) and value.keys() == {field.name for field in fields(Plugin)}):
        return False
    if not all(isinstance(each, str) for each in value.values()):
        return False
    code = f"{value['package']}=={value['version']}" if value["package"] else value["text"]
    is_name = all(part.isidentifier() for part in value["module"].split("."))
    return is_name and loading.digest_of(code) == value["digest"]


def code_digest(modules: Iterable[str], codes: Iterable[str] = ()) -> str | None:
    """Return the digest of the code of several plug-ins, and of what is from none, 16 hex digits; None for neither.

    Args:
        modules: the plug-ins.
        codes: the digests that entries of no module have.
    """
    digests = sorted(set(codes)) + [f"{module}={_plugin(module).digest}" for module in sorted(set(modules))]
    return loading.digest_of("\n".join(digests)) if digests else None


def _plugin(module: str) -> Plugin:
    """Return a plug-in, also one that a program has imported by itself."""
    with loading.lock:
        if module not in loading.loaded_plugins:
            loading.loaded_plugins[module] = _imported(module)
        return loading.loaded_plugins[module]


def _imported(name: str) -> Plugin:
    package, version = loading.distribution_of(name)
    if package:
        return Plugin(name, loading.digest_of(f"{package}=={version}"), "", package, version)
    try:
        text = inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):
        text = ""
    return Plugin(name, loading.digest_of(text), text)


@contextmanager
def installed(
    kept: Iterable[Mapping[str, Any]], *, allowed: bool, known: Collection[str] = ()
) -> Iterator[None]:
    """Have exactly the plug-ins of a study inside the block, as it has kept them.

    Args:
        kept: from `records`.
        allowed: whether any code from the study's database may run here, and any module of installed packages. What
            packages declare as plug-ins may in any case.
        known: digests of what else may.

    Raises:
        UnusableError: code may not run here, or a package is missing or has another version; says what to do.
    """
    plugins = [Plugin(**each) for each in kept]
    for plugin in plugins:
        _check(plugin, allowed=allowed, known=known)
    if not plugins:  # a killed process would leave its folder for nothing
        yield
        return
    before = dict(loading.loaded_plugins)
    with tempfile.TemporaryDirectory(prefix="lab-plugins-") as folder:  # for tracebacks
        try:
            _install_or_say_why(plugins, Path(folder))
            yield
        finally:
            _restore(plugins, before, Path(folder))


def _check(plugin: Plugin, *, allowed: bool, known: Collection[str]) -> None:
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
        # or a study could have any module run here under a package's name
        if not loading.is_of(plugin.module, plugin.package):
            raise UnusableError(
                f"says that its plug-in {plugin.module} is of {plugin.package}, which has no such module here"
            )
    if allowed or plugin.digest in known or loading.loaded_plugins.get(plugin.module) == plugin:
        return
    if not plugin.package:
        raise UnusableError(f"brings code of its own, the plug-in {plugin.module}; {_ALLOW}")
    if not loading.is_declared(plugin.module):  # a study could have any module of any package run here
        raise UnusableError(
            f"takes {plugin.module} for a plug-in, which {plugin.package} does not say it is (the entry points "
            f"{loading.GROUP}); {_ALLOW}"
        )


def _install_or_say_why(plugins: Iterable[Plugin], folder: Path) -> None:
    try:
        _install(plugins, folder)
    except ConfigError as error:
        raise UnusableError(f"has a plug-in that does not work here: {error}") from error


def _install(plugins: Iterable[Plugin], folder: Path) -> None:
    """Load plug-ins that are not loaded yet; those that are a text, from a file in `folder`."""
    with loading.lock:
        for plugin in plugins:
            if loading.loaded_plugins.get(plugin.module) == plugin:
                continue
            if plugin.package:
                if plugin.module in loading.loaded_plugins:  # a file of the same name
                    _take_out(plugin.module)
                loading.load_module(plugin.module)
                continue
            file = folder / f"{plugin.module}.py"
            file.write_text(plugin.text, encoding="utf-8")
            loading.execute(plugin, file)


def _restore(plugins: Iterable[Plugin], before: Mapping[str, Plugin], folder: Path) -> None:
    """Have, in place of plug-ins, those that were loaded before; what is of a package may stay."""
    with loading.lock:
        for plugin in plugins:
            module, earlier = plugin.module, before.get(plugin.module)
            if loading.loaded_plugins.get(module) != earlier and not (plugin.package and earlier is None):
                _take_out(module)
                _install([earlier] if earlier else [], folder)


def _take_out(module: str) -> None:
    registry.forget(module)
    loading.loaded_plugins.pop(module, None)
    sys.modules.pop(module, None)
