"""The tables and figures on a study's own run, whatever its trials are."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from lab.pictures import effects_figure, size_figure
from lab.report import cells, effects, publish_leaderboard

PICTURES = {"effects.png", "size.png", "time.png"}


@pytest.fixture
def studied(memory_study: Any) -> Any:
    study = memory_study(("net", "lr", "seed"))
    for index, (net, size) in enumerate({"small": 1e3, "large": 1e6, "worse": 1e6}.items()):
        for lr in (0.1, 0.01):
            for seed in range(2):
                value = 0.5 + 0.1 * index - (0.3 if net == "worse" else 0) + lr / 10 + seed / 100
                params = {"net": net, "lr": lr, "seed": seed}
                study.trial(params, best_value=value, test_accuracy=value, params=size, seconds=size / 1e4)
    return study


def test_a_panel_for_each_dimension(studied: Any) -> None:
    table = effects(studied.board(repeats="each"), ["net", "lr"])
    panels = [axes for axes in effects_figure(table).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["net", "lr"]
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in panels]
    assert labels == [["large", "small", "worse"], ["0.01", "0.1"]]  # numbers in numerical order


def test_the_front_is_drawn_over_sizes(studied: Any) -> None:
    axes = size_figure(studied.board()).axes[0]
    assert axes.get_xscale() == "log"
    front = next(line for line in axes.lines if line.get_label() == "Pareto front")
    assert list(front.get_xdata()) == [1e3, 1e6]  # type: ignore[arg-type]
    assert {"net=small lr=0.1", "net=large lr=0.1"} <= {text.get_text() for text in axes.texts}


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("varied", [(), ("net",), ("net", "lr"), ("net", "seed"), ("net", "lr", "seed")])
@pytest.mark.parametrize("value", [0.5, math.nan, None])
def test_every_study_can_be_drawn(
    memory_study: Any, count: int, varied: tuple[str, ...], value: float | None
) -> None:
    study = memory_study(varied)
    metrics = {} if value is None else {"best_value": value, "test_accuracy": value}
    for index in range(count):
        params = dict.fromkeys(varied, index)
        study.trial(params, "failed" if value is None else "diverged", params=10, seconds=1, **metrics)
    trials = study.board(repeats="each")
    assert publish_leaderboard(study.parent, trials).equals(cells(trials))
    artifacts = study.tracker.artifacts(study.parent.run_id)
    assert set(artifacts) >= PICTURES
    assert all(artifacts[name].startswith(b"\x89PNG") for name in PICTURES)


def test_long_names_and_many_values(memory_study: Any) -> None:
    study = memory_study(tuple(f"d{number}" for number in range(12)))
    for index in range(30):
        params = dict.fromkeys(study.varied, f"{'long' * 20}-{index}")
        study.trial(params, best_value=0.5, test_accuracy=index / 40, params=index + 1, seconds=index)
    trials = study.board(repeats="each")
    figure = effects_figure(effects(trials, study.varied))
    assert len(figure.axes) == 9
    assert all(len(axes.get_yticklabels()) == 20 for axes in figure.axes)
    publish_leaderboard(study.parent, trials)


def test_names_of_variants_are_drawn_as_they_stand(
    memory_study: Any, caplog: pytest.LogCaptureFixture
) -> None:
    study = memory_study(("$dim_$", "other"))
    for index, name in enumerate(("$x_$", "cost $5 or $\\frac{1", "_hidden", "[red]", "猫\n😀", "")):
        params = {"$dim_$": name, "other": index}
        study.trial(params, best_value=0.5, test_accuracy=index / 40, params=index + 1, seconds=index)
    with caplog.at_level(logging.WARNING):
        publish_leaderboard(study.parent, study.board(repeats="each"))
    assert set(study.tracker.artifacts(study.parent.run_id)) >= PICTURES
    assert not caplog.records


def test_what_cannot_be_drawn_costs_neither_the_tables_nor_the_others(
    studied: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lab.pictures.size_figure", None)
    with caplog.at_level(logging.WARNING):
        publish_leaderboard(studied.parent, studied.board(repeats="each"))
    assert set(studied.tracker.artifacts(studied.parent.run_id)) >= PICTURES | {
        "leaderboard.json",
        "effects.csv",
    }
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["size.png was not drawn"]
