"""No modules of lab import each other in a circle, and pyproject.toml declares every package that is imported.

Layers and other contracts are import-linter's.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

import lab

ROOT = Path(lab.__file__).parents[1]
OURS = ("lab", "tests", "benchmarks", "examples", "docker")
OPTIONAL = {"pillow-heif"}  # a plug-in of Pillow's, used if it is there
ABSENT = {"pynvml": ["nvidia-ml-py"]}  # distributions of packages that may not be installed here


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(dependencies()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_what_is_imported_through_a_face_is_found_behind_it() -> None:
    assert "lab.tracking.base" in dependencies()["lab.objective.trial"]


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {spelt(re.split(r"[^\w.-]", each)[0]) for group in wanted for each in group}
    distributions = ABSENT | dict(packages_distributions())
    lacking = {}
    for file in (file for folder in OURS for file in (ROOT / folder).rglob("*.py")):
        for package in third_party(ast.parse(file.read_text())):
            names = {spelt(each) for each in distributions.get(package, [package])}
            if not names & (declared | OPTIONAL):
                lacking[package] = str(file)
    assert lacking == {}


def spelt(name: str) -> str:
    """Return the one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def third_party(tree: ast.AST) -> Iterator[str]:
    """Yield the packages of others that a module imports, also by their names as text."""
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "require")):
            modules = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        packages = {str(module).partition(".")[0] for module in modules}
        yield from packages - sys.stdlib_module_names - {*OURS, "my_nets"}


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
