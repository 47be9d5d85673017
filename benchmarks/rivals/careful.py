"""A grid as a careful engineer writes it in an afternoon: one process, Optuna and MLflow, nothing done twice.

Each trial is a nested run with its parameters, a batch of metrics per epoch, the test accuracy of its best weights and
the model in MLflow's default format. Pinned requirements spare MLflow their inference, which takes seconds per model.
It draws no figures and keeps no checkpoints: whoever kills it starts that trial again.

`python -m benchmarks.rivals.careful FOLDER`
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import mlflow
import optuna
import torch
from mlflow.models import infer_signature

from benchmarks.rivals import digits

_PINS = [f"torch=={torch.__version__}", f"mlflow=={mlflow.__version__}"]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("careful", str(folder / "artifacts")))
    data = digits.load()
    study = optuna.create_study(
        study_name="careful",
        storage=f"sqlite:///{folder}/optuna.db",
        sampler=optuna.samplers.GridSampler(digits.GRID),
        direction="maximize",
    )
    with mlflow.start_run(run_name="careful"):
        study.optimize(lambda trial: _trial(trial, data), n_trials=len(digits.cells()))
        mlflow.log_metric("best", study.best_value)


def _trial(trial: optuna.Trial, data: digits.Data) -> float:
    cell = {name: trial.suggest_categorical(name, values) for name, values in digits.GRID.items()}
    torch.manual_seed(0)
    net = digits.build(cell["activation"])
    best, weights = -1.0, net.state_dict()
    with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
        mlflow.log_params(cell | {"epochs": digits.EPOCHS, "batch_size": digits.BATCH_SIZE})
        for epoch, metrics in enumerate(digits.train(net, data, cell["optimizer"], cell["lr"]), start=1):
            mlflow.log_metrics(metrics, step=epoch)
            trial.report(metrics["val_accuracy"], epoch)
            if metrics["val_accuracy"] > best:
                best, weights = metrics["val_accuracy"], copy.deepcopy(net.state_dict())
        net.load_state_dict(weights)
        test_loss, test_accuracy = digits.accuracy(net, *data.test)
        mlflow.log_metrics({"test_loss": test_loss, "test_accuracy": test_accuracy})
        example = data.val[0][:2]
        with torch.inference_mode():
            signature = infer_signature(example.numpy(), net(example).numpy())
        mlflow.pytorch.log_model(
            net, name="model", signature=signature, pip_requirements=_PINS, input_example=example.numpy()
        )
    return best


if __name__ == "__main__":
    main(Path(sys.argv[1]))
