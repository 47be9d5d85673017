"""The mistakes of a trained model on the test split."""

from __future__ import annotations

from lab.data import INTAKE, Dataset, Intake, load_data
from lab.objective.error_analysis import log_error_analysis
from lab.restore import restore
from lab.tracking import Tracker
from lab.trained import restored_net
from lab.training import (
    DetailedEvaluation,
    ErrorAnalysis,
    analyse,
    build_metrics,
    evaluate,
    resolve_device,
)

__all__ = ["analyse_run", "analyse_test"]


def analyse_run(tracker: Tracker, run_id: str, *, download: bool = False) -> ErrorAnalysis:
    """Evaluate the trained model of an earlier run on the test split again, and log its mistakes to that run.

    Raises:
        LabError: there is no such run, it kept no weights or those of another net, or its data is missing.
    """
    saved = restore(tracker, run_id)
    config = saved.config
    device = resolve_device(config)
    dataset = load_data(config, device=device, download=download)
    model = restored_net(saved, dataset.shape, len(dataset.classes), device)
    metrics = build_metrics(config, len(dataset.classes), device)
    test = evaluate(model, dataset.test, dataset, config, top_k=config.top_k, metrics=metrics)
    errors = analyse_test(dataset, test)
    run = tracker.attach(run_id)
    run.log_metrics(errors.metrics())
    log_error_analysis(run, errors, dataset.test)
    run.log_text(Intake.of(config, dataset).to_json(), INTAKE)  # earlier versions kept none
    return errors


def analyse_test(dataset: Dataset, test: DetailedEvaluation) -> ErrorAnalysis:
    """Return the mistakes in an evaluation of the test split."""
    return analyse(dataset.test.labels, test, dataset.classes)
