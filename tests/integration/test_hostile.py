"""Malformed and malicious files: one clear error each, no code run, and no user data lost."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lab.cli import main
from lab.config import parse_grid
from lab.engines import submit
from tests.once import copy_of
from tests.stores import stores_in

GRID = """\
name: tiny
base:
  dataset: synthetic
  image_size: 8
  width: 4
  depth: 1
  epochs: 2
  batch_size: 256
  patience: none
grid:
  lr: [0.01, 0.02]
  activation: [relu, tanh]
"""
BASE = "base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, epochs: 2, batch_size: 256}\n"
SEARCH = BASE + "budget: {trials: 2}\nsearch:\n  space: {lr: {low: 0.001, high: 0.1}}\n"


def invoke(*args: object) -> Result:
    """Run a `lab` command in this process; an exception that the command does not handle is raised."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="lab", color=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


ERROR = "\x1b[31m\x1b[1mError: \x1b[0m"  # as `lab` itself colours it; other escapes would be a file's


def contents(folder: Path) -> dict[str, bytes | str | None]:
    """Return the contents of `folder`: bytes for files, targets for links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = (
            str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        )
    return found


def assert_one_error(result: Result, message: str, code: int | None = None) -> None:
    """Assert that a command failed with one error that matches `message`, without terminal control characters."""
    assert result.exit_code != 0, result.output
    assert code is None or result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stderr.count(ERROR) == 1, result.stderr
    assert re.search(message, result.stderr), result.stderr
    plain = result.output.replace(ERROR, "")
    assert all(letter.isprintable() or letter == "\n" for letter in plain), repr(plain)


def laughs(key: str) -> str:
    """Return ten lines that expand to a thousand million values."""
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for number in range(1, 10):
        before, own = chr(96 + number), chr(97 + number)
        lines.append(f"{own}: &{own} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines) + f"\n{key}: *j\n"


def without(key: str) -> str:
    """Return the grid file without one of its keys and its contents."""
    kept, skipping = [], False
    for line in GRID.splitlines(keepends=True):
        skipping = line.startswith(f"{key}:") or (skipping and line.startswith(" "))
        kept += [] if skipping else [line]
    return "".join(kept)


def with_key(line: str) -> str:
    """Return the grid file with its top-level key of this name replaced."""
    return without(line.partition(":")[0]) + line + "\n"


MARKER = "ran"  # a file that only a hostile file's code would make
APPLY = f"!!python/object/apply:os.system ['touch {MARKER}']"

# what a grid file holds, and what the error says of it
GRID_FILES: dict[str, tuple[str | bytes, str]] = {
    "truncated in a list": (GRID[: GRID.index(", 0.02")], r"g\.yaml:\d+: .*expected ',' or ']'"),
    "truncated in a key": (GRID[: GRID.index("tivation: [")], r"g\.yaml:\d+: "),
    "truncated in base": (GRID[: GRID.index("epochs: 2") + 6], r"g\.yaml:\d+: "),
    "truncated in a quoted text": (GRID + "description: 'ab", r"g\.yaml:\d+: .*end of stream"),
    "truncated in a flow mapping": (GRID + "budget: {trials: 3", r"g\.yaml:\d+: .*expected ',' or '}'"),
    "truncated in an anchor": (GRID + "report: &", r"g\.yaml:\d+: "),
    "truncated in an alias": (GRID + "report: *", r"g\.yaml:\d+: "),
    "truncated in a tag": (GRID + "report: !<tag", r"g\.yaml:\d+: "),
    "truncated in an escape": (GRID + 'report: "\\u12', r"g\.yaml:\d+: "),
    "truncated within a letter": ((GRID + "report: é").encode()[:-1], "is not UTF-8 text"),
    "binary": (bytes(range(256)) * 8, "is not UTF-8 text"),
    "a zip": (b"PK\x03\x04" + bytes(60), "U\\+0003 is not allowed"),
    "NUL bytes": (GRID.encode() + b"\0" * 100, r"g\.yaml:13: .*U\+0000 is not allowed"),
    "a NUL in a text": (GRID + 'report: "a\\0b"\n', "report: text with a NUL"),
    "UTF-16": (GRID.encode("utf-16"), "is not UTF-8 text"),
    "UTF-32": (GRID.encode("utf-32"), "is not UTF-8 text|is not allowed"),
    "empty": ("", "is empty"),
    "blank": (" \n\n", "is empty"),
    "only a comment": ("# nothing\n", "is empty"),
    "a list": ("- 1\n- 2\n", "a grid file is a mapping"),
    "a scalar": ("3\n", "a grid file is a mapping"),
    "a text": ("grid\n", "a grid file is a mapping"),
    "null": ("null\n", "a grid file is a mapping"),
    "two documents": (GRID + "---\n" + GRID, "a second document"),
    "too large": (GRID + "# " + "x" * 1_000_000, "is larger than 1,000,000 bytes"),
    "deep lists": ("base: " + "[" * 50_000, "nested deeper than 40 levels"),
    "deep mappings": ("base: " + "{a: " * 50_000, "nested deeper than 40 levels"),
    "deep blocks": ("- " * 50_000, "nested deeper than 40 levels"),
    "billion laughs": (laughs("report"), "holds more than 100,000 values"),
    "billion laughs in merge keys": (
        "a: &a {x: 1}\n"
        + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{', '.join([f'*{chr(97 + n)}'] * 9)}]}}\n"
            for n in range(9)
        ),
        "holds more than 100,000 values",
    ),
    "an alias that contains itself": ("base: &b {more: *b}\n", "an alias that contains itself"),
    "a merge of itself": ("base: &b {<<: *b}\n", "an alias that contains itself"),
    "a list of itself": ("constraints: &c [*c]\n", "an alias that contains itself"),
    "a huge whole number": (with_key("repeats: " + "9" * 5000), "a whole number of 5000 digits is too large"),
    "a large whole number": (with_key("repeats: " + "9" * 400), "repeats: must be a number from 1 to 10,000"),
    "a large seed": (with_key("repeats: [" + "9" * 400 + "]"), "repeats"),
    "a huge hexadecimal number": (
        with_key("epochs: 0x" + "f" * 9000),
        "a whole number of 9002 digits is too large",
    ),
    "a huge fraction": (with_key("epochs: 1" + "0" * 400 + ".5"), "epochs"),
    "a huge exponent": (with_key("grid: {lr: [1e999999]}"), "lr"),
    "an infinity": (with_key("grid: {lr: [.inf]}"), "lr"),
    "no number": (with_key("grid: {lr: [.nan]}"), "lr"),
    "an infinite budget": (with_key("budget: {seconds: .inf}"), "budget.seconds"),
    "no number of epochs": (with_key("epochs: .nan"), "epochs"),
    "duplicate keys": (GRID + "grid: {}\n", "the key 'grid' is given twice; the first is on line 10"),
    "python/object/apply": (
        with_key(f"name: {APPLY}"),
        "name: the tag !!python/object/apply:os.system is not",
    ),
    "python/object/apply as a whole": (APPLY, "the tag !!python/object/apply:os.system is not supported"),
    "python/object/apply as a key": (f"? {APPLY}\n: 1\n", "a key must be text"),
    "python/object/new": (
        with_key(f"report: !!python/object/new:os.system ['touch {MARKER}']"),
        "the tag !!python/object/new",
    ),
    "python/name": (with_key("base: !!python/name:os.system"), "the tag !!python/name"),
    "an unknown tag": (with_key("base: !mine {a: 1}"), "the tag !mine is not supported"),
    "a binary tag": (with_key("report: !!binary aGk="), "the tag !!binary is not supported"),
    "code in a constraint": (
        with_key(f"constraints: [\"__import__('os').system('touch {MARKER}')\"]"),
        r"constraints\[0\]",
    ),
    "code beside a constraint": (
        with_key(f"constraints: [\"params <= __import__('os').system('touch {MARKER}')\"]"),
        r"constraints\[0\]",
    ),
    **{
        f"{key} is {what}": (with_key(f"{key}: {value}"), rf"g\.yaml(:\d+)?: {key}")
        for key, wrong in {
            "name": ("3", "[a]", "{a: 1}", "true"),
            "description": ("[a]", "3"),
            "base": ("[1]", "3", "text"),
            "grid": ("[1]", "text", "{lr: {}}", "{lr: []}", "{nosuch: [1]}", "{a: {b: 3}}"),
            "search": ("3", "[]", "text", "{space: 3}", "{sampler: [1], space: {lr: [0.1, 0.2]}}"),
            "when": ("[1]", "{lr: 3}", "{nosuch: {lr: 1}}"),
            "exclude": ("{lr: 1}", "[3]", "[{}]"),
            "constraints": ("{a: 1}", "[3]", "text"),
            "repeats": ("text", "{a: 1}", "0", "true", "[a]"),
            "epochs": ("text", "[1]", "0"),
            "patience": ("text", "[1]", "-1"),
            "budget": ("3", "[1]", "{trials: many}", "{trials: 0}"),
            "needs": ("3", "{a: 1}", "[1]"),
            "report": ("3", "[a]"),
            "reported": ("3", "{a: 1}", "[1]", "[{test_accuracy: 9}]"),
        }.items()
        for value in wrong
        for what in [value]
    },
    "a search without a budget": (
        SEARCH.replace("budget: {trials: 2}\n", ""),
        "a search needs budget.trials",
    ),
    "a sampler that is code": (SEARCH + "  sampler: os.system\n", "sampler"),
    "a sampler with wrong options": (SEARCH + "  sampler: {name: tpe, n_startup_trials: [1]}\n", "sampler"),
    "a pruner with unknown options": (SEARCH + "  pruner: {name: median, __class__: 3}\n", "pruner"),
    "a range without an end": (SEARCH.replace("0.1}", ".inf}"), r"search\.space\.lr"),
    "a range of texts": (SEARCH.replace("0.1}", "high}"), r"search\.space\.lr"),
    "a target that is no number": (SEARCH + "  target: .nan\n", r"search\.target"),
    "an objective that is a list": (SEARCH + "  objectives: [[val_loss]]\n", r"search\.objectives"),
    "an objective that is a mapping": (
        SEARCH + "  objectives: [{val_loss: {a: 1}}]\n",
        r"search\.objectives",
    ),
    "a point to begin with that is a list": (SEARCH + "  enqueue: [{lr: [1]}]\n", r"search\.enqueue"),
}
NAMES: dict[str, str] = {
    "a parent": "../evil",
    "parents": "../../../../etc/cron.d/evil",
    "an absolute path": "/etc/evil",
    "a backslash": "..\\\\evil",
    "a slash": "a/b",
    "two dots": "..",
    "a dot": ".",
    "nothing": "",
    "a blank": " ",
    "a NUL": "a\\0b",
    "a newline": "a\\nb",
    "a newline at its end": "tiny\\n",
    "ANSI escapes": "\\e[31mred\\e[0m\\a",
    "a carriage return": "tiny\\rgone",
    "right to left": "tiny\\u202egpj",
    "very long": "a" * 5000,
    "a Windows device": "CON",
    "a Windows device with an ending": "nul.yaml",
    "a variable": "$HOME",
    "a command": "$(touch ran)",
    "a format": "{name.__class__}",
    "a quote": "a'b",
    "SQL": "a'; DROP TABLE trials; --",
    "other letters": "ｔｉｎｙ",
}
NEEDS: dict[str, tuple[str, str]] = {
    "itself": ("g.yaml", "a study cannot need itself: g.yaml -> g.yaml"),
    "a missing file": ("missing.yaml", "there is no grid file missing.yaml"),
    "a folder": ("..", r"there is no grid file \.\."),
    "a device": ("/dev/null", "there is no grid file /dev/null"),
    "what is no grid file": ("../../../../../../../../../etc/passwd", "passwd"),
    "a NUL": ('"a\\0b"', "needs: text with a NUL"),
    "a very long name": ("a" * 5000, "needs"),
    "nothing": ('""', "needs"),
}


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, bytes | str | None]:
    """The user's files in the working directory, which nothing may touch, and next to them the hostile one."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "image.png").write_bytes(b"pixels")
    return contents(tmp_path)


def refuse_grid(
    file: Path, message: str, commands: tuple[str, ...] = ("check", "plan", "submit", "sweep")
) -> None:
    """Assert that every command that takes a grid file refuses `file`, and leaves everything as it was."""
    before = contents(file.parent)
    for command in commands:
        assert_one_error(invoke(command, file.name), message, code=2)
    assert contents(file.parent) == before


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("content", "message"), GRID_FILES.values(), ids=GRID_FILES.keys())
def test_a_hostile_grid_file_is_one_error_with_its_place(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    file = tmp_path / "g.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refuse_grid(file, message)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_hostile_name_of_a_study_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "g.yaml"
    file.write_text(with_key(f'name: "{name}"'))
    refuse_grid(file, r"g\.yaml:\d+: name: ")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("needs", "message"), NEEDS.values(), ids=NEEDS.keys())
def test_a_grid_file_that_needs_what_is_none_is_one_error(tmp_path: Path, needs: str, message: str) -> None:
    file = tmp_path / "g.yaml"
    file.write_text(with_key(f"needs: {needs}"))
    refuse_grid(file, message, ("submit", "sweep"))


# what stands where a grid file should be
PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "no such file"),
    "a folder": (Path.mkdir, "is a folder, not a file"),
    "a link to nothing": (lambda path: path.symlink_to("missing"), "no such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels"),
    "a device without end": (lambda path: path.symlink_to("/dev/zero"), "is larger than 1,000,000 bytes"),
    "a file that cannot be read": (
        lambda path: path.symlink_to("/proc/self/mem"),
        "cannot be read: Input/output",
    ),
}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("make", "message"), PLACES.values(), ids=PLACES.keys())
def test_what_is_no_file_is_one_error(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    file = tmp_path / "g.yaml"
    make(file)
    for command in (["check"], ["plan"], ["submit"], ["sweep"], ["train", "--config"]):
        assert_one_error(invoke(*command, file.name), rf"g\.yaml: {message}", code=2)
    assert not (tmp_path / ".lab").exists()


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("name", ["a\nb.yaml", "\x1b[31mred.yaml", "a" * 300, "\udcff.yaml"], ids=ascii)
def test_the_hostile_name_of_a_missing_file_is_one_error(tmp_path: Path, name: str) -> None:
    for command in (["check"], ["plan"], ["submit"], ["sweep"], ["train", "--config"]):
        assert_one_error(invoke(*command, name), "no such file|cannot be read", code=2)
    assert not (tmp_path / ".lab").exists()


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "con.fig", "Name"], ids=ascii)
def test_the_hostile_name_of_a_grid_file_does_not_name_its_study(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text(without("name"))
    refuse_grid(file, "the file name .* cannot be the study's name")


# what a file of config values holds, and what the error says of it
CONFIG_FILES: dict[str, tuple[str | bytes, str]] = {
    "truncated": ("dataset: synthetic\nfilters: [6, 1", r"c\.yaml:\d+: .*expected ',' or ']'"),
    "binary": (bytes(range(256)), "is not UTF-8 text"),
    "NUL bytes": (b"\0" * 50, "is not allowed in YAML"),
    "UTF-16": ("dataset: synthetic\n".encode("utf-16"), "is not UTF-8 text"),
    "empty": ("", "is empty"),
    "a list": ("[1]\n", "must hold settings"),
    "a scalar": ("1\n", "must hold settings"),
    "deep nesting": ("filters: " + "[" * 5000, "nested deeper than 40 levels"),
    "billion laughs": (laughs("filters"), "holds more than 100,000 values"),
    "an alias that contains itself": ("filters: &a [*a]\n", "an alias that contains itself"),
    "duplicate keys": ("lr: 0.1\nlr: 0.2\n", "the key 'lr' is given twice"),
    "python/object/apply": (f"dataset: {APPLY}\n", "the tag !!python/object/apply:os.system is not supported"),
    "an unknown tag": ("dataset: !mine digits\n", "the tag !mine is not supported"),
    "an unknown field": ("__class__: 3\n", r"c\.yaml:1: __class__: "),
    "a field of methods": ("model_config: 3\n", r"c\.yaml:1: model_config: "),
    "an infinity": ("lr: .inf\n", r"c\.yaml:1: lr: "),
    "no number": ("dropout: .nan\n", r"c\.yaml:1: dropout: "),
    "a huge number": (f"epochs: {'9' * 5000}\n", "a whole number of 5000 digits"),
    "a width for all the memory there is": ("width: 1000000000000\ndepth: 3\n", "width"),
    "a depth without end": ("depth: 1000000000\n", "depth"),
    "filters without end": (f"filters: [{'9' * 30}]\n", "filters"),
    "an image for all the memory there is": ("dataset: synthetic\nimage_size: 1000000\n", "image_size"),
    "a number of threads": ("threads: 100000000\n", "threads"),
    "a seed of 400 digits": (f"seed: {'9' * 400}\n", "seed"),
    "a device that is code": ("device: __import__('os')\n", "device"),
    "an architecture that is a path": ("architecture: ../evil\n", "architecture"),
    "an activation that is a name of torch": ("activation: torch.load\n", "activation"),
    "a dataset that is a path": ("dataset: ../../etc\n", "dataset"),
    "a data_dir that climbs out": ("dataset: image_folder\ndata_dir: ../../../../../../nowhere\n", "nowhere"),
    "a data_dir that is a file": ("dataset: image_folder\ndata_dir: notes.txt\n", "notes.txt"),
    "a data_dir that is no folder of images": ("dataset: image_folder\ndata_dir: data\n", "data"),
    "a data_dir with a NUL": ('dataset: image_folder\ndata_dir: "a\\0b"\n', "text with a NUL"),
    "a data_dir with ANSI escapes": ('dataset: image_folder\ndata_dir: "\\e[31mred"\n', "red"),
    "a very long data_dir": (f"dataset: image_folder\ndata_dir: {'a' * 5000}\n", "data_dir|aaa"),
    "a data_dir of nobody's": ("dataset: image_folder\ndata_dir: ~nosuchuser/x\n", "~nosuchuser/x cannot be used"),
    "a data_dir that is a device": ("dataset: image_folder\ndata_dir: /dev/null\n", "/dev/null"),
    **{
        f"init_from {origin[:40]!a}": (f'init_from: "{origin}"\n', r"c\.yaml:1: init_from: ")
        for origin in (
            "../../evil", "/etc/passwd", "file:///etc/passwd", "runs:/../../evil", "best:../evil", "best:",
            "models:/", "models:/a/../b/1", "models:/a@b'c", "http://127.0.0.1/x", "\\e[31mred", "a\\nb", "",
            "a" * 5000, "best:a' OR '1'='1",
        )
    },
}  # fmt: skip


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("content", "message"), CONFIG_FILES.values(), ids=CONFIG_FILES.keys())
def test_a_hostile_config_file_is_one_error(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = contents(tmp_path)
    assert_one_error(invoke("train", "--config", "c.yaml"), message)
    assert contents(tmp_path) == before


def of_another_application(file: Path) -> None:
    """Make the database of an application that has tables of the same names."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE studies (title TEXT)")
        connection.execute("CREATE TABLE experiments (title TEXT)")
        connection.execute("INSERT INTO studies VALUES ('mine')")
        connection.commit()


def execute(*statements: str) -> Callable[[Path], object]:
    """Return a function that runs SQL on a database, as another program or a newer version would."""

    def run(file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return run


def cut(share: float) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])


def folder_in_its_place(file: Path) -> None:
    file.unlink()
    file.mkdir()


# what is done to a database
STORES: dict[str, Callable[[Path], object]] = {
    "text": lambda file: file.write_text("no database, but long enough to look like one " * 100),
    "NUL bytes": lambda file: file.write_bytes(bytes(8192)),
    "a header alone": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "truncated to a tenth": cut(0.1),
    "truncated to half": cut(0.5),
    "another application's": lambda file: (file.unlink(), of_another_application(file)),
    "of a newer version": execute("UPDATE alembic_version SET version_num = 'v99.0.0.z'"),
    "a folder": folder_in_its_place,
    "a link to itself": lambda file: (file.unlink(), file.symlink_to(file.name)),
}


@pytest.fixture(scope="module")
def databases_with_a_study(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Path:
    """The two databases after a grid was submitted, each complete in one file."""
    used, copies = tmp_path_factory.mktemp("used"), tmp_path_factory.mktemp("copies")
    copy_of(fresh_databases, used)
    submit(parse_grid(GRID, "g.yaml"), stores_in(used))
    for file in used.glob("*.db"):
        with closing(sqlite3.connect(file)) as there, closing(sqlite3.connect(copies / file.name)) as copy:
            there.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    return copies


@pytest.fixture
def submitted(tmp_path: Path, databases_with_a_study: Path) -> Path:
    """A folder with databases to which a study was submitted."""
    copy_of(databases_with_a_study, tmp_path / ".lab")
    (tmp_path / "g.yaml").write_text(GRID)
    return tmp_path / ".lab"


@pytest.mark.parametrize("spoiling", STORES.values(), ids=STORES.keys())
def test_a_hostile_database_of_studies_is_one_error(
    submitted: Path, spoiling: Callable[[Path], object]
) -> None:
    file = submitted / "optuna.db"
    spoiling(file)
    before = contents(submitted).get("optuna.db")
    for command in (["status", "tiny"], ["submit", "g.yaml"]):
        assert_one_error(invoke(*command), r"optuna\.db")
    assert contents(submitted).get("optuna.db") == before


@pytest.mark.parametrize("spoiling", STORES.values(), ids=STORES.keys())
def test_a_hostile_tracking_database_is_one_error(
    submitted: Path, spoiling: Callable[[Path], object]
) -> None:
    spoiling(submitted / "mlflow.db")
    for command in (["best", "tiny"], ["errors", "0" * 32]):
        assert_one_error(invoke(*command), r"mlflow\.db")


@pytest.mark.parametrize("lock", ["tables", "study%20tiny"])
def test_a_folder_in_place_of_a_lock_is_one_error(submitted: Path, lock: str) -> None:
    file = submitted / "optuna.db.locks" / lock
    file.unlink(missing_ok=True)
    file.mkdir(parents=True)
    assert_one_error(invoke("submit", "g.yaml"), "locks|optuna")


ATTRIBUTES: dict[str, str] = {
    "a cell's config is text": "UPDATE trial_user_attributes SET value_json = '\"x\"' WHERE key = 'config'",
    "no cell has a config": "DELETE FROM trial_user_attributes WHERE key = 'config'",
    "no trial has a cell": "DELETE FROM trial_user_attributes WHERE key = 'cell'",
    "a cell is a number": "UPDATE trial_user_attributes SET value_json = '3' WHERE key = 'cell'",
    "an attribute is not JSON": "UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'label'",
    "a study's attribute is not JSON": "UPDATE study_user_attributes SET value_json = '{'",
    "a study's needs are a number": "UPDATE study_user_attributes SET value_json = '3' WHERE key = 'needs'",
    "a study has no attributes": "DELETE FROM study_user_attributes",
}


@pytest.mark.parametrize("statement", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
def test_a_study_with_hostile_attributes_is_shown_or_one_error(submitted: Path, statement: str) -> None:
    execute(statement)(submitted / "optuna.db")
    for command in (["status", "tiny"], ["plan", "g.yaml"], ["submit", "g.yaml"], ["cancel", "tiny"]):
        result = invoke(*command)
        assert "Traceback" not in result.output
        assert result.exit_code in (0, 1)


def test_an_error_of_a_database_names_the_one_that_was_given(submitted: Path) -> None:
    file = submitted.parent / "elsewhere.db"
    (submitted / "optuna.db").rename(file)
    execute("UPDATE study_user_attributes SET value_json = '{'")(file)
    result = invoke("status", "tiny", "--storage", f"sqlite:///{file}")
    assert_one_error(result, r"elsewhere\.db cannot be used: an attribute is not JSON")
