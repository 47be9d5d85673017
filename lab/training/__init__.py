"""Training: the loop, stopping, optimizers, schedules, losses, checkpoints. Knows neither MLflow nor Optuna."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
