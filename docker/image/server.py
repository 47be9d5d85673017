"""`mlflow server`, with guard.py in front of the application that it serves."""

import mlflow.server
from mlflow.cli import cli

mlflow.server._find_app = lambda name: "guard:create_app"  # it takes no other than those that packages bring
cli()
