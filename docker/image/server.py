"""`mlflow server`, with guard.py in front of its application."""

import mlflow.server
from mlflow.cli import cli

mlflow.server._find_app = lambda name: (
    "guard:create_app"
)  # it accepts only applications that packages register
cli()
