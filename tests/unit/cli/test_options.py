from __future__ import annotations

import os
import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lab.cli.again import command_line
from lab.cli.options import parse_only, parse_overrides, store_options, stores_from
from lab.errors import ConfigError, ResourceError
from lab.server_file import ServerFile
from tests.servers import dead_port


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        ((), {}),
        (("epochs=3",), {"epochs": 3}),
        (("epochs=3", "batch-size = 8"), {"epochs": 3, "batch_size": 8}),
        (("epochs=3 lr=1e-2",), {"epochs": 3, "lr": 0.01}),  # all that `mlflow run -P set=…` can say
        (("data_dir=/a=b c=d epochs=3",), {"data_dir": "/a=b c=d epochs=3"}),
        (("data_dir=/a=b epochs=3",), {"data_dir": "/a=b", "epochs": 3}),
        (("activation=leaky relu",), {"activation": "leaky_relu"}),
        (("filters=6 16",), {"filters": (6, 16)}),
        (("epochs=",), {}),
        (("patience=none",), {"patience": None}),
        (("repeats=1", "max-retries=0", "name=smoke"), {"repeats": 1, "max_retries": 0, "name": "smoke"}),
        (("repeats=0,7",), {"repeats": [0, 7]}),
        (("gpu_memory=6 GB",), {"gpu_memory": "6 GB"}),
        (("gpu-memory=none",), {"gpu_memory": None}),
        (("budget.trials=4 budget.seconds=none",), {"budget.trials": 4, "budget.seconds": None}),
    ],
)
def test_overrides(overrides: tuple[str, ...], values: dict[str, object]) -> None:
    assert parse_overrides(overrides) == values


def test_overrides_that_are_none() -> None:
    with pytest.raises(ConfigError, match=r"--set takes KEY=VALUE, e\.g\. --set epochs=3, but got 'epochs'"):
        parse_overrides(("epochs",))


def test_overrides_of_what_is_no_single_value() -> None:
    with pytest.raises(ConfigError, match="repeets") as caught:
        parse_overrides(
            ("grid=x", "base.lr=3", "budget=3", "budget.trial=2", "budget.x=2", "repeets=3", "lr=x")
        )
    assert [str(fault) for fault in caught.value.faults] == [
        "--set grid: is not a single value; change it in the file. The keys that --set takes are name, repeats,"
        " max_retries, max_failures, priority, gpu_memory, budget.trials, budget.seconds, budget.epochs",
        "--set base.lr: settings of the base are set by their own names; write --set lr=…",
        "--set budget: is not a single value; change it in the file. The keys that --set takes are name, repeats,"
        " max_retries, max_failures, priority, gpu_memory, budget.trials, budget.seconds, budget.epochs",
        "--set budget.trial: unknown key. Did you mean 'budget.trials'?",
        "--set budget.x: unknown key. The keys that --set takes are name, repeats, max_retries, max_failures, priority,"
        " gpu_memory, budget.trials, budget.seconds, budget.epochs",
        "--set repeets: unknown setting. Did you mean 'repeats'?",
        "--set lr: must be a valid number, but got 'x'",
    ]


def test_the_command_line_is_given_back() -> None:
    @click.command()
    @click.argument("grid")
    @click.option("--set", "overrides", multiple=True)
    @click.option("--workers", type=int, default=2)
    @click.option("--download", is_flag=True)
    @click.option("--storage", envvar="LAB_STORAGE")
    @click.pass_context
    def sweep(ctx: click.Context, **_: object) -> None:
        click.echo(command_line(ctx))
        click.echo(command_line(ctx, only={"workers"}))

    args = ["--download", "my grid.yaml", "--set", "a=1", "--set", "b=x y"]
    result = CliRunner(env={"LAB_STORAGE": "sqlite://"}).invoke(sweep, args, prog_name="sweep")
    first, second = result.stdout.splitlines()
    assert first == "lab sweep 'my grid.yaml' --set a=1 --set 'b=x y' --download"
    assert second == "lab sweep"
    assert CliRunner().invoke(sweep, ["g", "--workers", "3"]).stdout.endswith("lab sweep --workers 3\n")
    shown = CliRunner().invoke(sweep, ["g", "--storage", "postgresql://me:s3cret@db/lab"]).stdout
    assert shown.startswith("lab sweep g --storage 'postgresql://me:***@db/lab'\n")


@click.command()
@store_options
@click.pass_context
def show(ctx: click.Context, tracking_uri: str | None, storage: str | None) -> None:
    stores = stores_from(tracking_uri, storage, only_look=True)
    click.echo(f"{stores.tracking_uri} {stores.storage} {stores.journal_dir} {stores.server_file}")
    click.echo(f"{os.environ.get('MLFLOW_TRACKING_PASSWORD')} {os.environ.get('PGPASSWORD')}")
    click.echo(command_line(ctx))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD"):
        monkeypatch.setenv(name, "-")  # so that what a command sets is undone
        monkeypatch.delenv(name)
    for place in (".lab", "other/.lab", "elsewhere"):
        (tmp_path / place).mkdir(parents=True)
        name = place.split("/")[0]
        server = ServerFile(
            f"http://{name}:5000", f"postgresql://lab@{name}:5432/studies", "lab", f"of-{name}"
        )
        server.write(tmp_path / place / "server.json")
    return tmp_path


def shown(*args: str, **env: str) -> list[str]:
    result = CliRunner(env=env).invoke(show, args, prog_name="show", catch_exceptions=False)
    return result.stdout.splitlines()


def test_a_server_of_this_folder_is_found(folder: Path) -> None:
    stores, passwords, command = shown()
    home = folder / ".lab"
    assert stores == f"http://.lab:5000 postgresql://lab@.lab:5432/studies {home}/journal {home}/server.json"
    assert passwords == "of-.lab of-.lab"
    assert command == "lab show"


def test_a_named_server_comes_before_it(folder: Path) -> None:
    file = folder / "other" / ".lab" / "server.json"
    stores, passwords, command = shown("--server", "other/.lab/server.json")
    assert stores == f"http://other:5000 postgresql://lab@other:5432/studies {file.parent}/journal {file}"
    assert passwords == "of-other of-other"
    assert command == "lab show --server other/.lab/server.json"
    assert shown(LAB_SERVER=str(file))[0] == stores


def test_a_copy_of_a_server_file_keeps_checkpoints_in_this_folder(folder: Path) -> None:
    assert shown("--server", "elsewhere/server.json")[0].split()[2] == f"{folder}/.lab/journal"


def test_a_named_store_comes_first_and_is_not_told_the_password_of_another(folder: Path) -> None:
    stores, passwords, _ = shown("--tracking-uri", "http://mine:1")
    assert stores.startswith("http://mine:1 postgresql://lab@.lab:5432/studies ")
    assert passwords == "None of-.lab"
    assert shown(LAB_STORAGE="sqlite:////tmp/own.db")[0].startswith("http://.lab:5000 sqlite:////tmp/own.db ")
    neither = shown("--tracking-uri", "http://mine:1", "--storage", "sqlite:////tmp/own.db")[0]
    assert neither.endswith(" None")


def test_without_a_server_the_stores_are_in_this_folder(folder: Path) -> None:
    (folder / ".lab" / "server.json").unlink()
    assert shown()[0].startswith(f"sqlite:///{folder}/.lab/mlflow.db sqlite:///{folder}/.lab/optuna.db")


def test_a_server_that_is_not_running_is_an_error(folder: Path) -> None:
    address = f"127.0.0.1:{dead_port()}"
    server = ServerFile(f"http://{address}", f"postgresql://lab@{address}/studies", host=socket.gethostname())
    server.write(folder / ".lab" / "server.json")
    with pytest.raises(
        ResourceError, match=r"\.lab/server\.json names is not running: start it with `lab serve`$"
    ):
        stores_from(None, None)


def test_only_takes_several_values_and_lists() -> None:
    found = parse_only(("lr=0.1,0.2", "lr=0.3", "filters=6,16;8,32", "net=a, b"))
    assert found == {"lr": ["0.1,0.2", "0.3"], "filters": ["6,16;8,32"], "net": ["a, b"]}


@pytest.mark.parametrize("text", ["lr", "lr=", "=3"])
def test_only_must_name_a_key_and_values(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--only takes KEY=VALUES, e\.g\. --only lr=0.001,0.01, but got"):
        parse_only((text,))
