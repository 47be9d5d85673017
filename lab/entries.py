"""What a registry of names consists of: entries, each of which says what stands for a name and what it takes.

An entry refers to its implementation as `"module:attribute"`, so that `lab check` and `--help` can look up names
without importing torch. A plug-in registers the object itself, with the parameters of its own that become settings.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lab.errors import ConfigError

__all__ = ["Entry", "Family", "Parameter", "Registry", "look_further", "nearest", "suggest", "version"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, or None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'gelu'?"` for the known name most similar to `name`, or an empty string."""
    near = nearest(name, known)
    return f" Did you mean '{near}'?" if near else ""


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter of a plug-in's own: a setting for the trials that use the plug-in.

    Attributes:
        annotation: its type, possibly `Annotated` with pydantic's constraints.
        default: `...` if it must be given.
    """

    annotation: Any
    default: Any = ...


@dataclass(frozen=True)
class Entry:
    """A registered implementation and what it takes.

    Attributes:
        name: as registered.
        target: the object, or where it is, as `"module:attribute"`.
        options: the settings of lab that it takes besides those that all of its kind take.
        higher_is_better: of a metric; None if not given.
        bounds: the lowest and the highest value of a metric; None if not given.
        library: what knows the pretrained weights of an architecture (a `lab.models.Library`); None if nothing does.
        parameters: the settings of its own.
        module: of the plug-in that it is from; empty for lab's own, and for what a program has registered by itself.
        code: digest of its source, if it is from no module: a notebook's or a script's own.
        extra: the package that it needs and lab's extra of the same name; empty if it needs none.
        plain: whether it takes plain arguments where lab's own take the config (architectures and schedulers).
    """

    name: str
    target: Any
    options: tuple[str, ...] = ()
    higher_is_better: bool | None = None
    bounds: tuple[float, float] | None = None
    library: Any = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    module: str = ""
    code: str = ""
    plain: bool = False
    extra: str = ""

    def load(self) -> Any:
        """Return the implementation; one registered as `"module:attribute"` is imported."""
        return _loaded(self.target)

    def load_library(self) -> Any:
        """Return what knows its pretrained weights, or None."""
        return _loaded(self.library)

    def arguments(self, config: Any) -> dict[str, Any]:
        """Return the values that a config has for its options and parameters."""
        return {name: getattr(config, name) for name in (*self.options, *self.parameters)}


@dataclass(frozen=True)
class Family:
    """Names that another library defines, each written as `prefix/name`, with one implementation for all of them."""

    prefix: str
    entry: Entry

    def canonical(self, kind: str, name: str) -> str:
        """Return the library's spelling of `name`; any is accepted where the library is not installed.

        Raises:
            ConfigError: the library has no such name; suggests the most similar one.
        """
        own = _split(name)[1]
        known: frozenset[str] | None = self.entry.load_library().names()
        if known is None or own in known:
            return f"{self.prefix}/{own}"
        for other in known:
            if _fold(other) == _fold(own):
                return f"{self.prefix}/{other}"
        near = nearest(own, sorted(known))
        hint = f" Did you mean '{self.prefix}/{near}'?" if near else ""
        raise ConfigError(f"Unknown {kind} '{name}': {self.prefix} has no net of this name.{hint}")


class Registry:
    """Names of one kind, found in any spelling (`Leaky ReLU`, `leaky-relu`, `leaky_relu`)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._families: dict[str, Family] = {}

    def register(
        self,
        name: str,
        target: Any,
        options: Iterable[str] = (),
        *,
        higher_is_better: bool | None = None,
        bounds: tuple[float, float] | None = None,
        extra: str = "",
    ) -> None:
        """Add `target` (an object, or `"module:attribute"`) under `name`.

        Args:
            name: what configs call it.
            target: the implementation.
            options: the settings that it takes besides the common ones.
            higher_is_better: of a metric; if None, its class may say so, as those of torchmetrics do.
            bounds: the lowest and the highest value of a metric, if it has such.
            extra: as for `Entry`.

        Raises:
            ValueError: the name is taken.
        """
        self.add(Entry(name, target, tuple(options), higher_is_better, bounds, extra=extra))

    def add(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            ValueError: its name is taken.
        """
        taken = self._find(entry.name)
        if taken is not None:
            by = f" by {self._entries[taken].module}" if self._entries[taken].module else ""
            raise ValueError(f"{self.kind} '{entry.name}' is already registered{by}")
        self._entries[entry.name] = entry
        _changed()

    def remove(self, name: str) -> None:
        """Remove a name."""
        del self._entries[name]
        _changed()

    def register_family(
        self, prefix: str, target: Any, options: Iterable[str] = (), *, library: Any, extra: str = ""
    ) -> None:
        """Add all names `prefix/NAME` of another library.

        Args:
            prefix: in front of the slash.
            target: the implementation, as for `register`; it reads NAME from the config.
            options: as for `register`.
            library: a `lab.models.Library`, or `"module:attribute"`; loaded when such a name is looked up.
            extra: as for `Entry`.

        Raises:
            ValueError: the prefix is taken.
        """
        if prefix in self._families:
            raise ValueError(f"the {self.kind} family '{prefix}' is already registered")
        self._families[prefix] = Family(
            prefix, Entry(prefix, target, tuple(options), library=library, extra=extra)
        )

    @property
    def options(self) -> tuple[str, ...]:
        """All settings that any entry takes, without repetition."""
        entries = [*self._entries.values(), *(family.entry for family in self._families.values())]
        return tuple(dict.fromkeys(option for entry in entries for option in entry.options))

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Those of its families."""
        return tuple(self._families)

    def canonical(self, name: str) -> str:
        """Return the registered spelling of `name`.

        Raises:
            ConfigError: no such name; suggests the most similar one and lists all.
        """
        family = self._families.get(_split(name)[0])
        if family is not None:
            return family.canonical(self.kind, name)
        known = self._find(name)
        if known is None and any(look(self, name) for look in _FURTHER):
            known = self._find(name)
        if known is not None:
            return known
        raise ConfigError(
            f"Unknown {self.kind} '{name}'.{suggest(name, self._entries)} Known: "
            + ", ".join([*sorted(self), *(f"{prefix}/NAME" for prefix in self._families)])
        )

    def __getitem__(self, name: str) -> Entry:
        known = self.canonical(name)
        family = self._families.get(_split(known)[0])
        return self._entries[known] if family is None else replace(family.entry, name=known)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        try:
            self.canonical(name)
        except ConfigError:
            return False
        return True

    def __len__(self) -> int:
        return len(self._entries)

    def _find(self, name: str) -> str | None:
        """Return the registered spelling of `name`; a path, `module:attribute`, is spelt as it is."""
        if name in self._entries:  # at once: thousands of cells look up a dozen names each
            return name
        if ":" in name:
            return None
        return next((known for known in self._entries if _fold(known) == _fold(name)), None)


def _fold(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _split(name: str) -> tuple[str, str]:
    """Return the prefix and the name within a family; an empty prefix if there is no slash."""
    prefix, slash, own = name.strip().partition("/")
    return (prefix.strip().lower(), own.strip()) if slash else ("", name)


def _loaded(target: Any) -> Any:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


#: Where unknown names are looked for: each takes the registry and the name, and returns whether it has added any.
_FURTHER: list[Callable[[Registry, str], bool]] = []
_version = 0


def look_further(look: Callable[[Registry, str], bool]) -> None:
    """Look for names that no registry knows with `look`, which returns whether it has added any."""
    _FURTHER.append(look)


def version() -> int:
    """Return a number that changes with every name that is added or removed."""
    return _version


def _changed() -> None:
    global _version
    _version += 1
