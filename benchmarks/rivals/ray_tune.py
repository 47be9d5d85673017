"""The same grid with Ray Tune and its MLflow callback, one core per trial.

`python -m benchmarks.rivals.ray_tune FOLDER`
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback

from benchmarks.rivals import digits


def main(folder: Path) -> None:
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    data = ray.put(digits.load())
    tracking = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="ray", save_artifact=True
    )
    space = {name: tune.grid_search(list(values)) for name, values in digits.GRID.items()}
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, data=data), {"cpu": 1}),
        param_space=space,
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), callbacks=[tracking], verbose=0),
        tune_config=tune.TuneConfig(metric="val_accuracy", mode="max"),
    ).fit()
    if results.errors:
        raise RuntimeError(f"{len(results.errors)} trials failed: {results.errors[0]}")


def _trial(config: dict[str, Any], data: Any) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    splits = ray.get(data) if isinstance(data, ray.ObjectRef) else data
    net = digits.build(config["activation"])
    best, weights = -1.0, net.state_dict()
    for metrics in digits.train(net, splits, config["optimizer"], config["lr"]):
        if metrics["val_accuracy"] > best:
            best, weights = metrics["val_accuracy"], {k: v.clone() for k, v in net.state_dict().items()}
        tune.report(metrics)
    net.load_state_dict(weights)
    test_loss, test_accuracy = digits.accuracy(net, *splits.test)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(weights, Path(folder) / "model.pt")
        final = metrics | {"test_loss": test_loss, "test_accuracy": test_accuracy}
        tune.report(final, checkpoint=tune.Checkpoint.from_directory(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
