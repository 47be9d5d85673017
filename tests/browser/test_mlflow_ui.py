"""What people see of a study in the MLflow UI, in a real browser on a real server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.tracking import curves_page
from tests.chromium import DRAWN_CURVES, LAST_IMAGE, Page

from .conftest import Study

pytestmark = pytest.mark.browser


def test_experiment_groups_the_trials_under_the_study(study: Study, open_page: Callable[[str], Page]) -> None:
    page = open_page(f"{study.url}/#/experiments/{study.experiment}?workflowType=machine_learning")
    page.shows("Which learning rate and activation tell the synthetic classes apart?")
    page.until(lambda: page.column("attributes.`Run Name`") == ["little"], "only the study's own run")
    page.click("[role=row][row-index='0'] [col-id='attributes.`Run Name`'] button")
    names = {"little", *study.leaderboard["name"]}
    page.until(lambda: set(page.column("attributes.`Run Name`")) == names, "the trials under their study")


def test_saved_view_is_the_leaderboard_and_can_be_sorted(
    study: Study, open_page: Callable[[str], Page]
) -> None:
    page = open_page(study.page)
    best = study.leaderboard["best_value"].tolist()
    shown = lambda: [float(value) for value in page.column("metrics.`best_value`")]  # noqa: E731
    page.until(lambda: shown() == pytest.approx(sorted(best, reverse=True)), "the best trial first")
    page.shows("activation", "lr", "test_accuracy", "best_epoch", "lab.outcome", "4 matching runs")
    outcomes = sorted(study.leaderboard["outcome"])  # the table may be drawn anew at any moment
    page.until(lambda: sorted(page.column("tags.`lab.outcome`")) == outcomes, "the outcomes")
    page.click("[role=columnheader][col-id='metrics.`best_value`']")
    page.until(lambda: shown() == pytest.approx(sorted(best)), "the best trial last")


def test_saved_view_compares_the_trials_in_charts(study: Study, open_page: Callable[[str], Page]) -> None:
    page = open_page(f"{study.page}&compareRunsMode=CHART")
    page.shows("Study\n(6)", "Parallel Coordinates", "val_accuracy", "val_loss", "train_loss")
    page.until(lambda: page.ask(DRAWN_CURVES)[:3] == [4, 4, 4], "a curve for each trial in the first charts")


def test_run_shows_metrics_params_dataset_and_where_it_belongs(
    study: Study, open_page: Callable[[str], Page]
) -> None:
    page = open_page(study.run(study.best["run_id"]))
    page.shows(study.best["name"], "Finished", "little")
    page.shows("lab.outcome", "completed", "lab.cell", "synthetic (")
    page.search("Search metrics", "best_")
    page.shows("best_value", "best_epoch")
    page.search("Search parameters", "activation")
    page.until(lambda: study.best["activation"] in page.text.split("Parameters")[1], "the activation")


def test_run_draws_its_curves(study: Study, open_page: Callable[[str], Page]) -> None:
    page = open_page(study.run(study.best["run_id"], "model-metrics"))
    page.search("Search metric charts", "loss")
    page.shows("train_loss", "val_loss", "test_loss")
    page.until(lambda: page.ask(DRAWN_CURVES) == [1, 1], "the curves of the two losses")


def test_curves_of_two_runs_are_drawn_over_each_other(study: Study, open_page: Callable[[str], Page]) -> None:
    best, worst = study.best, study.leaderboard.iloc[-1]
    page = open_page(
        study.url + curves_page([study.experiment], [best["run_id"], worst["run_id"]], "val_accuracy")
    )
    page.shows("val_accuracy", "2/2", best["name"], worst["name"])


@pytest.mark.parametrize(("image", "width"), [("confusion_matrix.png", 300), ("curves.png", 900)])
def test_run_has_its_figures(study: Study, open_page: Callable[[str], Page], image: str, width: int) -> None:
    page = open_page(study.run(study.best["run_id"], f"artifacts/{image}"))
    page.until(lambda: page.ask(LAST_IMAGE) >= width, image)


@pytest.mark.parametrize(
    ("file", "text"), [("config.yaml", "dataset: synthetic"), ("model.txt", "features.conv1")]
)
def test_run_has_its_texts(study: Study, open_page: Callable[[str], Page], file: str, text: str) -> None:
    page = open_page(study.run(study.best["run_id"], f"artifacts/{file}"))
    page.shows("checkpoints", "confusion_matrix.png", "curves.png", text)


def test_study_has_its_leaderboard_as_a_table(study: Study, open_page: Callable[[str], Page]) -> None:
    page = open_page(study.run(study.parent, "artifacts/leaderboard.json"))
    page.shows("grid.yaml", "leaderboard.csv", "View as table", "rank", "best_value", "test_accuracy")
    page.shows(*study.leaderboard["name"], *study.leaderboard["run_id"])


def test_model_has_its_metrics_and_its_signature(study: Study, open_page: Callable[[str], Page]) -> None:
    page = open_page(f"{study.url}/#/experiments/{study.experiment}/models?workflowType=machine_learning")
    page.shows("Ready", "Source run", *study.leaderboard["name"])
    page.click("[role=gridcell] a[href*='/models/m-']")
    page.shows("About this logged model", "test_accuracy", "test_macro_f1", "synthetic (#", "Parameters (")
    page.click_text("Artifacts")
    page.click_text("MLmodel")
    page.shows("signature:", '"binary", "name": "image"', '"string", "name": "label"', "probability")
