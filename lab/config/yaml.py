"""Reading YAML safely, with the line of every key.

Values follow the core schema of YAML 1.2: `1e-3` is a number, `yes` and `on` are text, nothing is a date or a
base-60 number. In addition, digits may be grouped (`150_000`). Tags never construct anything.

A setting that takes only text takes it as written: the class `001` is not a number. `Document.as_written` returns it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from lab.errors import ConfigError, Fault
from lab.registry import suggest

__all__ = ["Document", "composed", "dotted", "parse_yaml", "read_yaml", "scalar"]

KeyPath = tuple[str | int, ...]

_MAX_BYTES: Final = 1_000_000
_MAX_NODES: Final = 100_000  # with aliases expanded: a "billion laughs" file has only a few lines
_MAX_DEPTH: Final = 40

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS: Final = {text: text[0] in "tT" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}
_DIGITS: Final = r"[0-9]+(?:_[0-9]+)*"
_INT: Final = re.compile(rf"[-+]?{_DIGITS}")
_RADIX: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(rf"[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True)
class Document:
    """A YAML document: its plain value, and the line of everything in it."""

    value: Any
    file: str = ""
    text: str = field(default="", repr=False)
    marks: Mapping[KeyPath, int] = field(default_factory=dict, repr=False)
    #: The text of values other than text, as written.
    written: Mapping[KeyPath, str] = field(default_factory=dict, repr=False)

    def line(self, path: KeyPath) -> int | None:
        """Return the line (from 1) of the key or item at `path`, or of its nearest ancestor that exists."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.marks:
                return self.marks[path[:end]]
        return None

    def as_written(self, path: KeyPath, value: Any) -> Any:
        """Return the `value` at `path` in which numbers and booleans, also within lists, are the text that was written.

        `[001, 1e3, null]` gives `['001', '1e3', 'null']`.
        """
        if isinstance(value, list):
            return [self._item_as_written((*path, index), item) for index, item in enumerate(value)]
        return value if value is None else self._item_as_written(path, value)

    def _item_as_written(self, path: KeyPath, value: Any) -> Any:
        if isinstance(value, list):
            return self.as_written(path, value)
        return value if isinstance(value, str) else self.written.get(path, value)

    def fault(self, path: KeyPath, message: str) -> Fault:
        """Return the fault `message` at `path`, with its file, line and key."""
        return Fault(message, dotted(path), self.file, self.line(path))


def composed(text: str) -> str:
    """Return a name in Unicode's NFC form, so that names compare: macOS decomposes the `é` of a file name."""
    return unicodedata.normalize("NFC", text)


def dotted(path: KeyPath) -> str:
    """Return a key path in readable form: `grid.lr[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_shortened(part)}" if text else _shortened(part)
    return text


def scalar(text: str) -> Any:
    """Return the value of an unquoted scalar: None, a bool, an int, a float, or the text itself.

    Raises:
        ValueError: a whole number with more digits than Python reads.
    """
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _RADIX.fullmatch(text):
        number = int(text, 0)
        str(number)  # raises, like `int` for a decimal number of this length: no error message could show it
        return number
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def read_yaml(path: str | Path) -> Document:
    """Read one YAML document from a file.

    Raises:
        ConfigError: missing (with the most similar name), unreadable, too large, not UTF-8, or not plain YAML.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(Fault(f"no such file.{_near_file(path)}", file=str(path))) from None
    except IsADirectoryError:
        raise ConfigError(Fault("is a folder, not a file", file=str(path))) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(Fault(f"cannot be read: {reason}", file=str(path))) from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(
            Fault(f"is larger than {_MAX_BYTES:,} bytes, too large for a configuration", file=str(path))
        )
    return parse_yaml(_decoded(data, str(path)), str(path))


def parse_yaml(text: str, file: str = "") -> Document:
    """Read one YAML document from text.

    Args:
        text: the document.
        file: its name, for error messages.

    Raises:
        ConfigError: syntax errors, no document or several, duplicate keys, keys that are not text, tags,
            aliases that contain themselves or expand excessively, excessive nesting.
    """
    if len(text) > _MAX_BYTES:
        raise ConfigError(
            Fault(f"is longer than {_MAX_BYTES:,} characters, too large for a configuration", file=file)
        )
    root = _composed(text, file)
    if root is None:
        raise ConfigError(Fault("is empty", file=file))
    builder = _Builder(file)
    value = builder.build(root, ())
    if builder.faults:
        raise ConfigError(builder.faults)
    return Document(value, file, text, builder.marks, builder.written)


class _Loader(yaml.BaseLoader):
    """Composes nodes, with an empty tag unless the document gives one."""

    depth = 0

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        return ""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_MAX_DEPTH} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _composed(text: str, file: str) -> yaml.Node | None:
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=_Loader)
        return root
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_fault(error, file)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        # PyYAML passes the code point as a number, although its annotations say bytes
        message = f"the character U+{int(error.character):04X} is not allowed in YAML"
        raise ConfigError(Fault(message, file=file, line=line)) from None
    except (yaml.YAMLError, ValueError, OverflowError, LookupError, RecursionError) as error:
        raise ConfigError(Fault(f"cannot be read as YAML: {error}", file=file)) from None


def _syntax_fault(error: yaml.MarkedYAMLError, file: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    if error.context == "expected a single document in the stream":
        message = "a second document ('---') begins here; a file holds one"
    else:
        message = " ".join(part for part in (error.context, error.problem) if part)
        message += "; indent with spaces, not tabs" if "'\\t'" in message else ""
    return Fault(message, file=file, line=mark.line + 1 if mark else None)


class _Builder:
    """Turns composed nodes into plain values, and remembers the line of each."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.marks: dict[KeyPath, int] = {}
        self.written: dict[KeyPath, str] = {}
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._count += 1
        if self._count > _MAX_NODES:
            message = f"holds more than {_MAX_NODES:,} values after its aliases are expanded"
            raise ConfigError(Fault(message, file=self.file))
        self.marks.setdefault(path, _line(node))
        if id(node) in self._open:
            self._fault(node, path, "an alias that contains itself")
            return None
        self._open.add(id(node))
        value = self._construct(node, path)
        self._open.remove(id(node))
        return value

    def _construct(self, node: yaml.Node, path: KeyPath) -> Any:
        if node.tag not in ("", "tag:yaml.org,2002:str"):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._fault(node, path, f"the tag {_shortened(tag)} is not supported; write the plain value")
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        value = self._scalar(node, path)
        if not isinstance(value, str):
            self.written.setdefault(path, node.value)  # merged keys (`<<`) come later and do not replace it
        return value

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text: str = node.value
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
            self._fault(node, path, "text with a NUL or half a surrogate pair")
            return None
        quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
        if quoted or node.tag:
            return text
        try:
            return scalar(text)
        except ValueError:
            self._fault(node, path, f"a whole number of {len(text)} digits is too large")
            return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merges = [value for key, value in node.value if _is_merge(key)]
        for key_node, value_node in node.value:
            key = None if _is_merge(key_node) else self._key(key_node, path)
            if key is None:
                continue
            if key in lines:
                first = f"the first is on line {lines[key]}"
                self._fault(key_node, (*path, key), f"the key '{_shortened(key)}' is given twice; {first}")
                continue
            lines[key] = _line(key_node)
            self.marks.setdefault((*path, key), lines[key])
            values[key] = self.build(value_node, (*path, key))
        for source in merges:  # after the mapping's own keys, whose marks take precedence
            values = {**self._merged(source, path), **values}
        return values

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._fault(node, path, "a key must be text, not a list or a mapping")
            return None
        key = self._scalar(node, path)
        if isinstance(key, str):
            return composed(key)
        self._fault(
            node, path, f"a key must be text, but got {_shortened(node.value) or 'nothing'}; quote it"
        )
        return None

    def _merged(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """Return the values that `<<` merges; the mapping's own keys override them."""
        value: dict[str, Any] = {}
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:  # the first one wins
            if not isinstance(source, yaml.MappingNode):
                self._fault(source, path, "'<<' takes a mapping or a list of mappings")
            elif isinstance(built := self.build(source, path), dict):
                value = {**built, **value}
        return value

    def _fault(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.faults.append(Fault(message, dotted(path), self.file, _line(node)))


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == "<<" and node.style is None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _decoded(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(Fault("is not UTF-8 text", file=file, line=line)) from None


def _near_file(path: Path) -> str:
    try:
        return suggest(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    except (OSError, ValueError):
        return ""


def _shortened(text: str) -> str:
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 60 else f"{text[:59]}…"
