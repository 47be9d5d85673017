"""Tags of runs and keys of studies and trials have one place each where they are spelt; everything else names them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab.study.keys import StudyKey, TrialKey
from lab.tracking.tags import Tag

PACKAGE = Path(lab.__file__).parent
TAGS = PACKAGE / "tracking" / "tags.py"
KEYS = PACKAGE / "study" / "keys.py"

TAG = re.compile(r"(tags\.)?lab\.[a-z_]+")
# keys of click's `meta`, a logger, a file and entry points
NO_TAGS = {"lab.outer_run", "lab.plugins", "lab.server", "lab.storage", "lab.use", "lab.worker", "lab.yaml"}
KEY = re.compile(r"lab:\w+")
#: Methods of queues, records and storages that take the key of a study or a trial.
TAKE_A_KEY = {"note", "note_trial", "noted", "attribute", "set_study_user_attr", "set_trial_user_attr"}
ATTRIBUTES = {"user_attrs", "attributes"}


def test_tags_are_spelt_in_one_file() -> None:
    spelt = [where(file, node) for file, node in nodes({TAGS}) if is_tag(node)]
    assert spelt == []


def test_keys_are_spelt_in_one_file() -> None:
    without_studies = set(TAGS.parent.rglob("*.py"))
    spelt = [where(file, node) for file, node in nodes({KEYS, *without_studies}) if is_key(node)]
    assert spelt == []


@pytest.mark.parametrize("names", [Tag, StudyKey, TrialKey], ids=lambda names: names.__name__)
def test_no_two_names_are_spelt_alike(names: type) -> None:
    values = [value for name, value in vars(names).items() if name.isupper()]
    assert len(set(values)) == len(values) > 10


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("runs['tags.lab.outcome']", is_found := True),
        ("{'lab.kind': 'trial'}", is_found),
        ("load('lab.models.cnn:build')", not is_found),
        ("click.get_current_context().meta['lab.storage']", not is_found),
    ],
)
def test_a_tag_is_told_from_other_text(code: str, is_found: bool) -> None:
    assert any(map(is_tag, ast.walk(ast.parse(code)))) is is_found


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("trial.user_attrs['lab:cell']", is_found := True),
        ("trial.user_attrs.get('cell')", is_found),
        ("queue.note('seconds', 3)", is_found),
        ("queue.note_trial(trial_id, 'run_id', run_id)", is_found),
        ("queue.note(StudyKey.SECONDS, 3)", not is_found),
        ("row['cell']", not is_found),
    ],
)
def test_a_key_is_told_from_other_text(code: str, is_found: bool) -> None:
    assert any(map(is_key, ast.walk(ast.parse(code)))) is is_found


def nodes(leaving_out: set[Path]) -> Iterator[tuple[Path, ast.AST]]:
    for file in sorted({*PACKAGE.rglob("*.py")} - leaving_out):
        yield from ((file, node) for node in ast.walk(ast.parse(file.read_text())))


def where(file: Path, node: ast.AST) -> str:
    return f"{file.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)}"


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_tag(node: ast.AST) -> bool:
    text = node.value if isinstance(node, ast.Constant) else None
    return isinstance(text, str) and bool(TAG.fullmatch(text)) and text not in NO_TAGS


def is_key(node: ast.AST) -> bool:
    """Whether a node is a key with lab's prefix, or text in a place where a key belongs."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and bool(KEY.fullmatch(node.value))
    if isinstance(node, ast.Subscript):
        return is_attributes(node.value) and is_text(node.slice)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        called, first = node.func, node.args[:2]
        if called.attr == "get":
            return is_attributes(called.value) and any(map(is_text, first[:1]))
        return called.attr in TAKE_A_KEY and any(map(is_text, first))
    return False


def is_attributes(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES
