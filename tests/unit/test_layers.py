"""No modules of lab import each other in a circle; layers and other contracts are import-linter's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

import lab

ROOT = Path(lab.__file__).parents[1]


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(dependencies()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_what_is_imported_through_a_face_is_found_behind_it() -> None:
    assert "lab.tracking.base" in dependencies()["lab.objective.trial"]


@cache
def dependencies() -> dict[str, set[str]]:
    """Return what each module imports: at its top, in a function, or by a name of a room's lazy face."""
    graph = grimp.build_graph("lab", exclude_type_checking_imports=True)
    faces = {name: face for name in graph.modules if (face := read_face(name))}
    found = {}
    for module in graph.modules - faces.keys():
        behind = {faces[room][name] for room, name in taken(source(module), faces) if name in faces[room]}
        found[module] = graph.find_modules_directly_imported_by(module) - faces.keys() | behind
    return found


def source(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def read_face(package: str) -> dict[str, str]:
    """Return the module behind each name of a package's lazy face; nothing of one that has none."""
    stub = source(package).with_name("__init__.pyi")
    if source(package).name != "__init__.py" or not stub.exists():
        return {}
    lines = [line for line in ast.parse(stub.read_text()).body if isinstance(line, ast.ImportFrom)]
    return {alias.name: f"{package}.{line.module}" for line in lines for alias in line.names}


def taken(file: Path, faces: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the room and the name of whatever a file takes from the rooms' faces, types alone left out."""
    rooms: dict[str, str] = {}
    for node in executed(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            rooms |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}"
                for alias in node.names
                if f"{node.module}.{alias.name}" in faces
            }
            if node.module in faces:
                yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in rooms:
            yield rooms[node.value.id], node.attr


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a tree's nodes from the top, but not what stands below `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield child
            yield from executed(child)
