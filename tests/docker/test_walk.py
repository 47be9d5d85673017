"""A member of the team signs in, and looks at the study in the MLflow UI and in the dashboard."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.tracking import study_page
from tests.chromium import DRAWN_CURVES, LAST_IMAGE, Page

from .conftest import CELLS, Stack

pytestmark = [pytest.mark.docker, pytest.mark.browser, pytest.mark.timeout(1200)]


@pytest.fixture
def signed_in(stack: Stack, open_page: Callable[[str], Page]) -> Stack:
    name, password = stack.account("reader")
    open_page(stack.url.replace("://", f"://{name}:{password}@"))
    return stack


def test_home_shows_the_workspace(signed_in: Stack, study: str, open_page: Callable[[str], Page]) -> None:
    page = open_page(signed_in.url)
    page.shows("Workspaces", "default", "reader")


def test_leaderboard_sorts_by_best_accuracy(
    signed_in: Stack, study: str, open_page: Callable[[str], Page]
) -> None:
    page = open_page(signed_in.url + study_page(signed_in.experiment(study).experiment_id))
    page.shows("activation", "lr", "test_accuracy", f"{CELLS} matching runs")
    shown = lambda: [float(value) for value in page.column("metrics.`best_value`")]  # noqa: E731
    page.until(lambda: len(shown()) > 10 and shown() == sorted(shown(), reverse=True), "the best first")
    page.click("[role=columnheader][col-id='metrics.`best_value`']")
    page.until(lambda: len(shown()) > 10 and shown() == sorted(shown()), "the best last")


def test_run_has_curves_and_its_confusion_matrix(
    signed_in: Stack, study: str, open_page: Callable[[str], Page]
) -> None:
    best = max(signed_in.runs(study), key=lambda run: run.data.metrics.get("best_value", 0.0)).info
    address = f"{signed_in.url}/#/experiments/{best.experiment_id}/runs/{best.run_id}"
    query = "?workflowType=machine_learning&workspace=default"
    page = open_page(f"{address}/model-metrics{query}")
    page.search("Search metric charts", "loss")
    page.shows("train_loss", "val_loss")
    page.until(lambda: page.ask(DRAWN_CURVES)[:2] == [1, 1], "the curves of the two losses")
    page = open_page(f"{address}/artifacts/confusion_matrix.png{query}")
    page.until(lambda: page.ask(LAST_IMAGE) >= 300, "the confusion matrix")


def test_runs_compare_in_parallel_coordinates(
    signed_in: Stack, study: str, open_page: Callable[[str], Page]
) -> None:
    page = open_page(
        signed_in.url + study_page(signed_in.experiment(study).experiment_id) + "&compareRunsMode=CHART"
    )
    page.shows("Parallel Coordinates", "val_accuracy")
    page.until(
        lambda: page.ask("return document.querySelectorAll('.parcoords canvas').length") > 0, "its lines"
    )


def test_dashboard_shows_the_study(stack: Stack, study: str, open_page: Callable[[str], Page]) -> None:
    page = open_page(f"http://127.0.0.1:{stack.dashboard_port}/dashboard")
    page.shows(study)
    page = open_page(f"http://127.0.0.1:{stack.dashboard_port}/dashboard/studies/1")
    page.shows("History", "Hyperparameter Importance", "Timeline")
