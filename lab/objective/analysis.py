"""The mistakes of a trained model on the test split."""

from __future__ import annotations

from lab.data import INTAKE, Intake, load_data
from lab.models import summarize_config
from lab.objective.error_analysis import log_error_analysis
from lab.objective.logged import log_model
from lab.objective.result import Normalized, test_metrics
from lab.restore import restore
from lab.tracking import Tracker
from lab.trained import restored_net
from lab.training import ErrorAnalysis, analyse, build_metrics, evaluate, resolve_device

__all__ = ["analyse_run"]


def analyse_run(tracker: Tracker, run_id: str, *, download: bool = False) -> ErrorAnalysis:
    """Evaluate the trained model of an earlier run on the test split, and log its mistakes to that run.

    A pruned trial was not tested before: its run also gets the test metrics and the model of a finished one.

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
    errors = analyse(dataset.test.labels, test, dataset.classes)
    is_tested = "test_accuracy" in tracker.record(run_id).metrics
    run = tracker.attach(run_id)
    if is_tested:
        run.log_metrics(errors.metrics())
    else:
        run.log_metrics(
            test_metrics(test, errors, summarize_config(config, dataset.shape, len(dataset.classes)))
        )
        log_model(run, Normalized(model.eval(), dataset.mean, dataset.std), config, dataset)
    log_error_analysis(run, errors, dataset.test)
    run.log_text(Intake.of(config, dataset).to_json(), INTAKE)  # earlier versions kept none
    return errors
