from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from lab.cli.again import command_line
from lab.cli.options import parse_only, parse_overrides
from lab.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        ((), {}),
        (("epochs=3",), {"epochs": 3}),
        (("epochs=3", "batch-size = 8"), {"epochs": 3, "batch_size": 8}),
        (("epochs=3 lr=1e-2",), {"epochs": 3, "lr": 0.01}),  # all that `mlflow run -P set=…` can say
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
        parse_overrides(("grid=x", "base.lr=3", "budget=3", "repeets=3", "lr=x"))
    assert [str(fault) for fault in caught.value.faults] == [
        "--set grid: is not a single value; change it in the file. The keys that --set takes are name, repeats,"
        " max_retries, gpu_memory, budget.trials, budget.seconds, budget.epochs",
        "--set base.lr: settings of the base are set by their own names; write --set lr=…",
        "--set budget: is not a single value; change it in the file. The keys that --set takes are name, repeats,"
        " max_retries, gpu_memory, budget.trials, budget.seconds, budget.epochs",
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


def test_only_takes_several_values_and_lists() -> None:
    found = parse_only(("lr=0.1,0.2", "lr=0.3", "filters=6,16;8,32", "net=a, b"))
    assert found == {"lr": ["0.1", "0.2", "0.3"], "filters": ["6,16", "8,32"], "net": ["a", "b"]}


@pytest.mark.parametrize("text", ["lr", "lr=", "=3"])
def test_only_must_name_a_key_and_values(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--only takes KEY=VALUES, e\.g\. --only lr=0.001,0.01, but got"):
        parse_only((text,))
