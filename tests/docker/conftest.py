"""The whole service in containers, from a clone of this repository, and a study that survived everything."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run

from lab.errors import StudyError
from lab.study import study_status
from tests.chromium import chromium, driver, open_page
from tests.servers import free_port

from .wheels import PACKAGE, write_wheel

__all__ = ["chromium", "driver", "open_page"]  # fixtures

REPOSITORY = Path(__file__).parents[2]
WORKERS = 3
CELLS = 24
IMAGE = "lab:test"


class Stack:
    """A clone of the repository with its secrets, and the containers of its compose file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = f"labtest{uuid.uuid4().hex[:8]}"
        self.port, self.postgres_port, self.dashboard_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.storage = f"postgresql://lab@127.0.0.1:{self.postgres_port}/lab"

    def prepare(self) -> None:
        """Clone, make the secrets, and set separate ports and names."""
        files = self._output("git", "-C", str(REPOSITORY), "ls-files", "-co", "--exclude-standard", "-z")
        for name in filter(None, files.split("\0")):
            source, target = REPOSITORY / name, self.folder / name
            if source.exists():  # not a deleted file that is still in the index
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        write_wheel(self.folder / "docker" / "packages", "1.0")
        self._output("make", "secrets")
        with (self.folder / ".env").open("a") as settings:
            settings.write(
                f"COMPOSE_PROJECT_NAME={self.project}\nLAB_IMAGE={IMAGE}\n"
                f"LAB_EXTRA_PACKAGES={PACKAGE}==1.0\n"
                f"LAB_MLFLOW_PORT={self.port}\nLAB_POSTGRES_PORT={self.postgres_port}\n"
                f"LAB_DASHBOARD_PORT={self.dashboard_port}\n"
            )

    def up(self, *options: str) -> None:
        self.compose("up", "--detach", "--wait", "--scale", f"worker={WORKERS}", *options)

    def compose(self, *arguments: str) -> str:
        return self._output("docker", "compose", *arguments)

    def lab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a lab command as a user of the service does."""
        command = ["docker", "compose", "run", "--rm", "-T", "lab", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=300)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *arguments], cwd=self.folder, capture_output=True, text=True, timeout=400
        )

    def container(self, service: str, number: int = 1) -> str:
        return f"{self.project}-{service}-{number}"

    def docker(self, *arguments: str) -> str:
        return self._output("docker", *arguments)

    def account(self, user: str) -> tuple[str, str]:
        """The name and the password of `admin`, `worker` or `reader`."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.secrets / f"mlflow_{user}")
        section = parser["mlflow"]
        return section["mlflow_tracking_username"], section["mlflow_tracking_password"]

    @property
    def secrets(self) -> Path:
        return self.folder / "docker" / "secrets"

    @cached_property
    def passwords(self) -> list[str]:
        """All secret words."""
        words = [self.account(user)[1] for user in ("admin", "worker", "reader")]
        words += [
            line.rsplit(":", 1)[1] for line in (self.secrets / "pgpass_migrate").read_text().splitlines()
        ]
        return [*words, (self.secrets / "flask_secret_key").read_text()]

    def ask(self, method: str, path: str, user: str | None = None, **options: object) -> requests.Response:
        """Call the tracking server's API."""
        auth = self.account(user) if user else None
        return requests.request(method, f"{self.url}/api/2.0/{path}", auth=auth, timeout=30, **options)  # type: ignore[arg-type]

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.url)

    def experiment(self, name: str) -> Experiment:
        found = self.client.get_experiment_by_name(name)
        assert found is not None, name
        return found

    def runs(self, study: str) -> list[Run]:
        """All runs of a study: its own and those of its trials."""
        return list(self.client.search_runs([self.experiment(study).experiment_id], max_results=1000))

    def unfinished(self) -> list[str]:
        """A line for each run of any experiment that has not finished, with its tags."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        runs = self.client.search_runs(experiments, "attributes.status != 'FINISHED'", max_results=1000)
        return [f"{run.info.run_name}: {run.info.status} {run.data.tags}" for run in runs]

    def states(self, study: str) -> dict[str, int]:
        """The trials of a study by state, read from outside; none while the database is down."""
        try:
            return study_status(self.storage, study).states
        except StudyError:
            return {}

    def wait(self, true: Callable[[], bool], what: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                told = [self.compose("logs", "--tail", "40"), *self.unfinished()]
                pytest.fail("\n".join([*told, f"not within {seconds:g} seconds: {what}"]), pytrace=False)
            time.sleep(0.5)

    def _output(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=900)
        if done.returncode:
            pytest.fail(f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}", pytrace=False)
        return done.stdout


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The service, started from nothing."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker engine answers")
    stack = Stack(tmp_path_factory.mktemp("clone"))
    stack.prepare()
    with pytest.MonkeyPatch.context() as environment:  # as on a laptop
        environment.setenv("PGPASSFILE", str(_own_copy(stack.secrets / "pgpass_lab", stack.folder)))
        name, password = stack.account("worker")
        environment.setenv("MLFLOW_TRACKING_USERNAME", name)
        environment.setenv("MLFLOW_TRACKING_PASSWORD", password)
        try:
            stack.up("--build")
            yield stack
        finally:
            down = ["compose", "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "1"]
            of_project = f"label=com.docker.compose.project={stack.project}"
            # also those of compose.tls.yaml, which `down` does not know
            networks = ["network", "prune", "--force", "--filter", of_project]
            for words in (down, networks):
                subprocess.run(["docker", *words], cwd=stack.folder, capture_output=True)


@pytest.fixture(scope="session")
def study(stack: Stack) -> str:
    """A study of 24 cells, trained while workers, MLflow and PostgreSQL were killed and stopped."""
    name = "quickstart"
    submitted = stack.lab("submit", "grids/quickstart.yaml", "--set", "epochs=3")
    assert submitted.returncode == 0, submitted.stderr
    assert "24 cells queued" in submitted.stdout

    def done(count: int) -> Callable[[], bool]:
        return lambda: stack.states(name).get("complete", 0) >= count

    def kill(container: str, pause: float) -> None:
        stack.docker("kill", container)
        time.sleep(pause)
        stack.docker("start", container)

    stack.wait(done(3), "the first three trials")
    kill(stack.container("worker", 1), 1)
    stack.wait(done(6), "six trials, after a worker was killed")
    kill(stack.container("mlflow"), 6)
    stack.wait(done(10), "ten trials, after MLflow was killed")
    kill(stack.container("postgres"), 4)
    stack.wait(done(13), "thirteen trials, after PostgreSQL was killed")
    kill(stack.container("worker", 2), 0)
    kill(stack.container("worker", 3), 0)
    stack.wait(lambda: stack.states(name) == {"complete": CELLS}, "all trials")
    stack.compose("up", "--detach", "--wait", "--no-recreate", "--scale", f"worker={WORKERS}")
    stack.wait(
        lambda: all(run.info.status == "FINISHED" for run in stack.runs(name)), "the end of every run", 120
    )
    return name


def _own_copy(file: Path, folder: Path) -> Path:
    """libpq reads only a file of the current user, but as root the secrets are given to another account."""
    copy = folder / "pgpass"
    shutil.copyfile(file, copy)
    copy.chmod(0o600)
    return copy
