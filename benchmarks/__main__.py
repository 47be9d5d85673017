"""`python -m benchmarks NAME`: one file per benchmark, imported when it is asked for."""

from __future__ import annotations

import importlib

import click

from lab.training import cores

_NAMES = ("throughput", "tracked", "fixed", "sweep", "memory", "claim")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Measure lab's speed and memory; every ratio is of two things measured in one run, in turns."""


@main.command()
@click.option("--preset", type=click.Choice(["conv3", "conv5"]), default="conv5", help="Net.")
@click.option("--images", default=2_560, help="Images per epoch; each variant trains one a round.")
@click.option("--rounds", default=5)
@click.option("--parity/--no-parity", default=True, help="Also compare the accuracy of fp32 and bf16.")
@click.option("--threads", default=cores(), help="Of each process but the two workers.")
def throughput(preset: str, images: int, rounds: int, parity: bool, threads: int) -> None:
    """Training in fp32, in bf16 and by two workers, against the plain PyTorch loop."""
    _module("throughput").run(preset, images, rounds, parity, threads)


@main.command()
@click.option("--epochs", default=5, help="Epochs compared, after one to warm up.")
@click.option("--images", default=5_000, help="Training images of the CIFAR-shape net.")
@click.option("--only", type=click.Choice(["mnist", "conv5"]), help="Only one of the two nets.")
@click.option("--threads", default=cores())
def tracked(epochs: int, images: int, only: str | None, threads: int) -> None:
    """Tracked training against the bare loop on the same tensors."""
    _module("tracked").run(epochs, images, only, threads)


@main.command()
@click.option("--trials", default=8, help="Trials measured, after one to warm up.")
@click.option("--epochs", default=2)
def fixed(trials: int, epochs: int) -> None:
    """What a trial of a sweep costs beside its epochs."""
    _module("fixed").run(trials, epochs)


@main.command()
@click.option("--all", "every", is_flag=True, help="All 12 by `mlflow run`, instead of 3 and scaling.")
def sweep(every: bool) -> None:
    """12 short trials by `lab sweep` against the same by `mlflow run`, one after another."""
    _module("sweep").run(every)


@main.command()
def memory() -> None:
    """Peak memory of a worker beside its dataset."""
    _module("memory").run()


@main.command()
@click.option("--largest", default=10_000, help="Cells of the largest study; the others are 100 and 1,000.")
@click.option("--claims", default=20, help="Claims measured of each study.")
def claim(largest: int, claims: int) -> None:
    """Claims from studies of 100, 1,000 and 10,000 cells, in SQLite and in LAB_BENCHMARK_POSTGRES."""
    _module("claim").run((100, 1_000, largest), claims)


@main.command(name="all")
@click.pass_context
def everything(context: click.Context) -> None:
    """All of them."""
    for name in _NAMES:
        context.invoke(main.commands[name])


def _module(name: str):  # type: ignore[no-untyped-def]
    return importlib.import_module(f"benchmarks.{name}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
