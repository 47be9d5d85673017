"""Grids and searches of image-classification trials, every one of them tracked in MLflow.

import lab

result = lab.train(lab.TrialConfig(dataset="digits", activation="gelu"), tracker=lab.connect("sqlite:///mlflow.db"))
result.outcome, result.best_value, result.model

grid = lab.load_grid("grids/quickstart.yaml")
lab.sweep(grid).leaderboard
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
