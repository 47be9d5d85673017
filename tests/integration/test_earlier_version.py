"""Studies, journals, checkpoints and cell hashes made by the version before the supervisor continue under this one.

That version itself makes the files: it is extracted from git and run as a separate program.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lab.cli import main
from tests.earlier import EarlierLab, TrialRow, extract, points, run_tags, runs, trials
from tests.once import made_once
from tests.servers import MlflowServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMIT = "e50dcab"
EPOCHS = 50
BASE = f"""
base:
  dataset: synthetic
  image_size: 8
  width: 4
  depth: 1
  epochs: {EPOCHS}
  batch_size: 256
  dropout: 0.2
  augment: [horizontal_flip]
  scheduler: one_cycle
  log_every_n_steps: 3
  patience: 20
"""
GRID = f"""
name: grid
{BASE}
grid:
  lr: [0.01, 0.02, 0.03]
  optimizer: [adam, sgd]
"""
SEARCH = f"""
name: search
{BASE}
search:
  sampler: {{name: tpe, seed: 3, n_startup_trials: 3}}
  space:
    lr: {{low: 0.001, high: 0.1, log: true}}
    width: {{low: 2, high: 6, step: 2}}
    optimizer: [adam, sgd]
    momentum: {{low: 0.0, high: 0.95, when: {{optimizer: sgd}}}}
    net:
      plain: {{activation: relu}}
      normed: {{activation: gelu, norm: batch}}
  enqueue:
    - {{lr: 0.01, width: 4, optimizer: adam, net: plain}}
budget: {{trials: 6}}
"""
HASHES = """
import json, sys
from pathlib import Path
from click.testing import CliRunner
from lab.cli import main
for file in sorted(Path(sys.argv[1]).glob("*.yaml")):
    more = ["--set", "data_dir=" + sys.argv[2]] if "image_folder" in file.read_text() else []
    result = CliRunner().invoke(main, ["plan", str(file), "--format", "json", "--limit", "1000", *more])
    print(json.dumps([file.name, result.exit_code, result.stdout, result.stderr]))
"""
#: Fails a trial whose worker died, and does not requeue it, as if killed in between.
FAIL_ONE = """
from optuna.trial import TrialState
from lab.study import find_queue
queue = find_queue("sqlite:///.lab/optuna.db", "grid")
queue.fail(queue._trial_id(queue.trials(TrialState.RUNNING)[0].number))
"""
Points = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and the grids of the earlier version."""
    return made_once(tmp_path_factory, "earlier version", lambda folder: extract(COMMIT, folder))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory, code: Path) -> Path:
    """Empty databases made by the earlier version."""

    def make(home: Path) -> None:
        (home / ".lab").mkdir()
        EarlierLab(code, home).script(
            "from lab.study import open_storage; open_storage('sqlite:///.lab/optuna.db').engine.dispose()\n"
            "from lab.tracking import prepare; prepare('sqlite:///.lab/mlflow.db')"
        )

    return made_once(tmp_path_factory, "earlier databases", make)


def in_folder(home: Path, code: Path, empty: Path, tracking_uri: str | None = None) -> EarlierLab:
    (home / ".lab").mkdir(parents=True)
    for file in (empty / ".lab").glob("*.db"):
        shutil.copy(file, home / ".lab")
    (home / "grid.yaml").write_text(GRID)
    (home / "search.yaml").write_text(SEARCH)
    return EarlierLab(code, home, tracking_uri)


@pytest.fixture
def earlier(tmp_path: Path, code: Path, empty: Path) -> EarlierLab:
    """The earlier version, in the folder where the new one continues."""
    return in_folder(tmp_path, code, empty)


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, code: Path, empty: Path) -> dict[str, dict[str, Points]]:
    """The points of each cell of the two studies that the earlier version trained without interruption."""

    def make(folder: Path) -> None:
        lab = in_folder(folder / "home", code, empty)
        lab.run("sweep", "grid.yaml", "--workers", "2")
        lab.run("sweep", "search.yaml", "--workers", "1")  # one worker: each trial depends on all before it
        found = {study: curves(lab.home, study) for study in ("grid", "search")}
        (folder / "points.json").write_text(json.dumps(found))

    text = (made_once(tmp_path_factory, "earlier calm", make) / "points.json").read_text()
    return {
        study: {
            cell: {name: [(step, value) for step, value in history] for name, history in curve.items()}
            for cell, curve in cells.items()
        }
        for study, cells in json.loads(text).items()
    }


def curves(home: Path, study: str, database: Path | None = None) -> dict[str, Points]:
    """Return the points of each cell of a study, whose runs must all have finished without starting over."""
    database = database or home / ".lab" / "mlflow.db"
    found = runs(home, study)
    for run_id in found.values():
        tags = run_tags(database, run_id)
        assert tags["status"] == "FINISHED"
        assert not {"lab.restarted", "lab.continued"} & set(tags)
    assert len(set(found.values())) == len(found)
    return {cell: points(database, run_id) for cell, run_id in found.items()}


def lab(*words: str, code: int = 0) -> Result:
    """Run a command of this version here."""
    result = CliRunner().invoke(main, list(words), prog_name="lab")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def status(study: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab("status", study, "--format", "json").stdout)
    return found


def in_the_middle(home: Path, study: str) -> bool:
    """Whether some trials have finished and one is under way, with most of its epochs left: a stop takes a while."""
    found = trials(home, study)
    running = [trial for trial in found if trial.state == "RUNNING" and 2 <= trial.epochs <= EPOCHS // 4]
    return bool(running) and any(trial.state == "COMPLETE" for trial in found)


def by_state(found: list[TrialRow]) -> dict[str, list[TrialRow]]:
    states: dict[str, list[TrialRow]] = {}
    for trial in found:
        states.setdefault(trial.state, []).append(trial)
    return states


def check_continued(
    home: Path, study: str, before: list[TrialRow], calm: dict[str, dict[str, Points]]
) -> None:
    """Compare a study finished by this version with the undisturbed one: each cell once, in the same run as before."""
    after = trials(home, study)
    done = [trial for trial in after if trial.state == "COMPLETE"]
    assert len(done) == len({trial.cell for trial in done}) == len(calm[study])
    assert {trial.number for trial in before} <= {trial.number for trial in after}
    assert runs(home, study).items() >= {trial.cell: trial.run_id for trial in before if trial.run_id}.items()
    assert curves(home, study) == calm[study]


def test_an_interrupted_grid_continues(earlier: EarlierLab, calm: dict[str, dict[str, Points]]) -> None:
    process = earlier.start("sweep", "grid.yaml", "--workers", "2")
    earlier.wait(process, lambda: in_the_middle(earlier.home, "grid"))
    earlier.interrupt(process)
    before = trials(earlier.home, "grid")
    states = by_state(before)
    assert set(states) == {"COMPLETE", "WAITING"}
    assert any(trial.run_id for trial in states["WAITING"])  # was returned to the queue, with a checkpoint
    assert any(not trial.run_id for trial in states["WAITING"])
    assert any((earlier.home / ".lab").rglob("last.pt"))

    counts = status("grid")
    assert counts["states"] == {"complete": len(states["COMPLETE"]), "waiting": len(states["WAITING"])}
    ranked = json.loads(lab("best", "grid", "--format", "json").stdout)
    assert {row["run_id"] for row in ranked} >= {trial.run_id for trial in states["COMPLETE"]}
    cells = {
        row["cell_hash"]: row["state"]
        for row in json.loads(lab("plan", "grid.yaml", "--format", "json").stdout)
    }
    assert cells == {
        trial.cell: {"COMPLETE": "complete", "WAITING": "waiting"}[trial.state] for trial in before
    }

    lab("sweep", "grid.yaml", "--workers", "2")
    assert len(trials(earlier.home, "grid")) == len(before)  # nothing was queued a second time
    check_continued(earlier.home, "grid", before, calm)

    assert "optimizer" in lab("effects", "grid").stdout
    lab("results", "grid.yaml")
    assert "| lr | optimizer |" in (earlier.home / "docs" / "RESULTS.md").read_text()
    for trial in before[:3:2]:  # one of the earlier version alone, one that both trained
        assert "pattern0" in lab("errors", str(trial.run_id)).stdout
    lab("doctor")


def test_a_killed_grid_continues(earlier: EarlierLab, calm: dict[str, dict[str, Points]]) -> None:
    process = earlier.start("sweep", "grid.yaml", "--workers", "2")
    earlier.wait(process, lambda: in_the_middle(earlier.home, "grid"))
    earlier.kill(process)
    states = by_state(trials(earlier.home, "grid"))
    assert set(states) == {"COMPLETE", "RUNNING", "WAITING"}
    earlier.script(FAIL_ONE)
    before = trials(earlier.home, "grid")
    assert len(by_state(before)["FAIL"]) == 1

    counts = status("grid")["states"]
    assert counts["complete"] == len(states["COMPLETE"])
    assert sum(counts.values()) == len(before)
    lab("resume", "grid")
    counts = status("grid")["states"]
    assert counts["complete"] == len(states["COMPLETE"])
    assert counts["waiting"] == len(before) - len(states["COMPLETE"])
    assert "failed" not in counts
    lab("worker", "--study", "grid", "--workers", "2", "--idle-exit", "1")
    check_continued(earlier.home, "grid", before, calm)


def test_an_interrupted_search_continues(earlier: EarlierLab, calm: dict[str, dict[str, Points]]) -> None:
    process = earlier.start("sweep", "search.yaml", "--workers", "1")
    earlier.wait(process, lambda: in_the_middle(earlier.home, "search"))
    earlier.interrupt(process)
    before = trials(earlier.home, "search")
    assert {trial.cell for trial in before} == {f"slot-{number}" for number in range(6)}
    assert any(trial.params for trial in by_state(before)["WAITING"])
    assert status("search")["states"]["complete"] == len(by_state(before)["COMPLETE"])
    lab("sweep", "search.yaml", "--workers", "1")
    after = trials(earlier.home, "search")
    assert [trial.cell for trial in after] == [trial.cell for trial in before]
    check_continued(earlier.home, "search", before, calm)


def test_a_finished_search_grows(earlier: EarlierLab, tmp_path: Path) -> None:
    small = SEARCH.replace(f"epochs: {EPOCHS}", "epochs: 2").replace("trials: 6", "trials: 3")
    (tmp_path / "search.yaml").write_text(small)
    earlier.run("sweep", "search.yaml", "--workers", "1")
    before = trials(earlier.home, "search")
    grown = (
        small.replace("trials: 3", "trials: 5")
        .replace("high: 6", "high: 8")
        .replace("high: 0.1", "high: 0.2")
    )
    (tmp_path / "search.yaml").write_text(grown)
    lab("sweep", "search.yaml", "--workers", "1")
    after = trials(earlier.home, "search")
    assert after[:3] == before
    assert [trial.state for trial in after] == ["COMPLETE"] * 5
    assert status("search")["states"] == {"complete": 5}


def test_a_failed_grid_is_retried(earlier: EarlierLab, calm: dict[str, dict[str, Points]]) -> None:
    checkpoints = earlier.home / ".lab" / "checkpoints"
    checkpoints.write_text("a file where the folder should be")
    earlier.run("sweep", "grid.yaml", "--workers", "2", code=1)
    before = trials(earlier.home, "grid")
    assert {trial.state for trial in before} == {"FAIL"}
    assert status("grid")["states"] == {"failed": 6}
    checkpoints.unlink()

    one = before[0].cell
    lab("retry", "grid", "--cell", one[:8])
    assert status("grid")["states"] == {"failed": 5, "waiting": 1}
    lab("retry", "grid")
    assert status("grid")["states"] == {"waiting": 6}
    lab("sweep", "grid.yaml", "--workers", "2")
    check_continued(earlier.home, "grid", before, calm)


def test_a_cancelled_grid_is_resumed(earlier: EarlierLab, calm: dict[str, dict[str, Points]]) -> None:
    earlier.run("submit", "grid.yaml")
    earlier.run("cancel", "grid")
    assert status("grid")["cancelled"] is True
    lab("worker", "--study", "grid", "--workers", "2", "--idle-exit", "0")
    before = trials(earlier.home, "grid")
    assert {trial.state for trial in before} == {"WAITING"}
    lab("resume", "grid")
    assert status("grid")["cancelled"] is False
    lab("cancel", "grid")
    lab("resume", "grid")
    lab("worker", "--study", "grid", "--workers", "2", "--idle-exit", "1")
    check_continued(earlier.home, "grid", before, calm)
    assert len(json.loads(lab("best", "grid", "--each", "--format", "json").stdout)) == 6


def test_a_journal_of_a_killed_process_is_delivered(
    tmp_path: Path, code: Path, empty: Path, calm: dict[str, dict[str, Points]]
) -> None:
    server = MlflowServer(tmp_path / "server", empty / ".lab" / "mlflow.db")
    database = server.folder / "mlflow.db"
    earlier = in_folder(tmp_path / "home", code, empty, server.url)
    server.start()
    try:
        process = earlier.start("sweep", "grid.yaml", "--workers", "2")
        earlier.wait(process, lambda: in_the_middle(earlier.home, "grid"))
        server.stop()
        done = len(by_state(trials(earlier.home, "grid"))["COMPLETE"])
        earlier.wait(process, lambda: len(by_state(trials(earlier.home, "grid"))["COMPLETE"]) > done)
        earlier.kill(process)
        before = trials(earlier.home, "grid")
        assert any(earlier.home.glob(".lab/journal/**/*"))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(earlier.home)
            lab("sync", "--tracking-uri", server.url, code=1)  # the server is still down
            server.start()
            lab("sync", "--tracking-uri", server.url)
            for trial in by_state(before)["COMPLETE"]:
                assert trial.run_id is not None
                assert points(database, trial.run_id) == calm["grid"][trial.cell]
                assert run_tags(database, trial.run_id)["status"] == "FINISHED"
            lab("sweep", "grid.yaml", "--workers", "2", "--tracking-uri", server.url)
            assert "Nothing is left" in lab("sync", "--tracking-uri", server.url).stdout
        assert runs(earlier.home, "grid").items() >= {t.cell: t.run_id for t in before if t.run_id}.items()
        assert curves(earlier.home, "grid", database) == calm["grid"]
    finally:
        server.stop()


def test_cells_have_the_same_hashes(tmp_path: Path, code: Path) -> None:
    photos = tmp_path / "photos"
    for name in "abcdefgh":
        (photos / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (128, 128), (number, ord(name), 3)).save(photos / name / f"{number}.png")
    here = Path(__file__).parents[2]
    # the earlier grid files: today's may have other cells
    then, now = (
        plans(EarlierLab(version, tmp_path / name), code / "grids", photos)
        for name, version in (("then", code), ("now", here))
    )
    assert len(then) > 15
    assert now.keys() == then.keys()
    for file, cells in then.items():
        assert _known_then(now[file], cells) == cells, file


def _known_then(now: Any, then: Any) -> Any:
    """Return a plan without the settings that the earlier version did not have."""
    if not isinstance(now, list) or len(now) != len(then):
        return now
    return [
        row | {"config": {name: row["config"].get(name) for name in cell["config"]}}
        for row, cell in zip(now, then, strict=True)
    ]


def plans(version: EarlierLab, grids: Path, photos: Path) -> dict[str, Any]:
    """Return what a version plans for each grid file: hash, size and settings of each cell, or a search's space."""
    found = {}
    for line in version.script(HASHES, str(grids), str(photos)).splitlines():
        file, exit_code, output, errors = json.loads(line)
        assert exit_code == 0, f"{file}: {errors}"
        plan = json.loads(output)
        keys = ("cell_hash", "label", "feasible", "params", "trainable_params", "mult_adds", "config")
        found[file] = (
            [{key: row[key] for key in keys} for row in plan] if isinstance(plan, list) else plan["space"]
        )
    return found
