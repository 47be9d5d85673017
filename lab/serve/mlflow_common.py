"""What the MLflow servers of `lab serve` and of `lab ui` have in common; it needs no extra."""

from __future__ import annotations

import urllib.request
from typing import Final

__all__ = ["COOKIE", "QUIET", "no_proxy"]

#: In the environment of all processes of `lab serve`: the folder that they belong to.
COOKIE: Final = "_LAB_SERVE"
#: In the environment of every MLflow server that lab starts.
QUIET: Final = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # job runners take 2 GB, and nothing here uses them
    "PYTHONWARNINGS": "ignore",
}
#: Opens addresses of this machine, never through a proxy.
no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
