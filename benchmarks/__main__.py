"""`python -m benchmarks NAME`: one file per benchmark, imported on demand."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click

from lab.training import cores

_NAMES = (
    *("throughput", "kernels", "augment", "stream", "tracked", "fixed", "ends", "sweep", "memory"),
    *("claim", "searches", "queueing", "board", "workers", "engines"),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Measure lab's speed and memory; every ratio compares two things measured in one run, in turns."""


@main.command()
@click.option("--preset", type=click.Choice(["conv3", "conv5"]), default="conv5", help="Net.")
@click.option("--images", default=2_560, help="Images per epoch; each variant trains one epoch per round.")
@click.option("--rounds", default=5)
@click.option("--parity/--no-parity", default=True, help="Also compare the accuracy of fp32 and bf16.")
@click.option("--threads", default=cores(), help="Threads of each process except the two workers.")
def throughput(preset: str, images: int, rounds: int, parity: bool, threads: int) -> None:
    """Training speed against the plain PyTorch loop.

    In fp32, in bf16 and with two workers in fp32.
    """
    _module("throughput").run(preset, images, rounds, parity, threads)


@main.command()
@click.option("--images", default=4_096, help="Images per epoch.")
@click.option("--size", default=32, help="Their height and width.")
@click.option("--batch-size", default=128)
@click.option("--rounds", default=5)
@click.option("--threads", default=1)
def augment(images: int, size: int, batch_size: int, rounds: int, threads: int) -> None:
    """Every augmentation against random_crop."""
    _module("augment").run(images, size, batch_size, rounds, threads)


@main.command()
@click.option("--epochs", default=5, help="Epochs to compare, after one to warm up.")
@click.option("--images", default=5_000, help="Training images of the CIFAR-shape net.")
@click.option("--only", type=click.Choice(["mnist", "conv5"]), help="Measure only one of the two nets.")
@click.option("--threads", default=cores())
def tracked(epochs: int, images: int, only: str | None, threads: int) -> None:
    """Tracked training against the bare loop on the same tensors."""
    _module("tracked").run(epochs, images, only, threads)


@main.command()
@click.option("--trials", default=8, help="Trials to measure, after one to warm up.")
@click.option("--epochs", default=2)
def fixed(trials: int, epochs: int) -> None:
    """What a trial in a sweep costs besides its epochs, and what a pruned one does."""
    _module("fixed").run(trials, epochs)


@main.command()
@click.option("--threads", default=cores(), help="Threads of training; decoding takes what is left.")
@click.option("--rounds", default=5)
def stream(threads: int, rounds: int) -> None:
    """Images decoded for every batch against the same images in memory."""
    _module("stream").run(threads, rounds)


@main.command()
@click.option("--images", default=1_280, help="Images per epoch; each variant trains one epoch per round.")
@click.option("--rounds", default=3)
def kernels(images: int, rounds: int) -> None:
    """Training of each net against the machine's matrix peak, and what takes the time."""
    _module("kernels").run(images, rounds)


@main.command()
@click.option("--rounds", default=3, help="Rounds of lab against the careful script.")
@click.option(
    "--slow/--no-slow", default=True, help="Also run Ray Tune and `mlflow run`, which take minutes."
)
def sweep(rounds: int, slow: bool) -> None:
    """A sweep of 48 short trials against a careful script, Ray Tune and `mlflow run`."""
    _module("sweep").run(rounds, slow)


@main.command()
def memory() -> None:
    """Peak memory of a worker, besides its dataset."""
    _module("memory").run()


@main.command()
@click.option("--largest", default=10_000, help="Cells of the largest study; the others are 100 and 1,000.")
@click.option("--claims", default=20, help="Claims to measure in each study.")
def claim(largest: int, claims: int) -> None:
    """Claims by size of the study.

    From studies of 100, 1,000 and 10,000 cells, in SQLite and in LAB_BENCHMARK_POSTGRES.
    """
    _module("claim").run((100, 1_000, largest), claims)


@main.command()
@click.option(
    "--size", "sizes", type=int, multiple=True, default=(100, 1_000, 5_000), help="Finished trials."
)
@click.option("--claims", default=10, help="Claims to measure beside each number of them.")
def searches(sizes: tuple[int, ...], claims: int) -> None:
    """Claims of a search's trials beside many that have finished, with every sampler."""
    _module("searches").run(sizes, claims)


@main.command()
@click.option("--cells", default=10_000)
def queueing(cells: int) -> None:
    """A large grid queued, and submitted again."""
    _module("queueing").run(cells)


@main.command()
@click.option("--fleet", "fleets", type=int, multiple=True, default=(10, 100, 1_000), help="Workers.")
@click.option("--cells", default=1_000, help="Cells to drain.")
@click.option(
    "--rate", default=1_000 / 60, help="Trials a second; 1,000 workers of a minute a trial end 16.7."
)
@click.option("--seconds", default=20.0, help="To claim for, as fast as they can.")
def workers(fleets: tuple[int, ...], cells: int, rate: float, seconds: float) -> None:
    """Many simulated workers on one study in PostgreSQL.

    How fast they claim, and how long they take to drain it against the ideal.
    """
    _module("workers").run(fleets, cells, rate, seconds)


@main.command()
@click.option("--cells", default=12)
@click.option("--rounds", default=3)
@click.option("--workers", default=2)
def engines(cells: int, rounds: int, workers: int) -> None:
    """What a worker and a trial cost on Slurm and on Ray, against local processes."""
    _module("engines").run(cells, rounds, workers)


@main.command()
@click.option("--rounds", default=3)
def ends(rounds: int) -> None:
    """A sweep's start and end, and the commands that only look: what a user waits for besides training."""
    _module("ends").run(rounds)


@main.command()
@click.option("--runs", default=5_000, help="Of the study, a multiple of 100.")
@click.option("--rounds", default=3)
def board(runs: int, rounds: int) -> None:
    """Reading the runs of a large study, against MLflow's own search."""
    _module("board").run(runs, rounds)


@main.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/search-tables"),
    help="Where the trained cells are kept; a second run only replays.",
)
@click.option("--seeds", default=10, help="Of each method on each table.")
@click.option("--tables", default=1, help="Of each grid, each with another seed of its cells.")
def search(folder: Path, seeds: int, tables: int) -> None:
    """Epochs that searches need for what a grid finds.

    On digits, MNIST and SVHN. Not part of `all`: training the cells takes half an hour the first time.
    """
    _module("search").run(folder, seeds, tables)


@main.command(name="all")
def everything() -> None:
    """Run all benchmarks but `search`, with their default options, each in a process of its own."""
    failed = [
        name
        for name in _NAMES
        if subprocess.run([sys.executable, "-m", "benchmarks", name], check=False).returncode
    ]
    if failed:
        raise click.ClickException(f"not all of them could run: {', '.join(failed)} (see above)")


def _module(name: str):  # type: ignore[no-untyped-def]
    return importlib.import_module(f"benchmarks.{name}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
