"""Check that the tracking server does what trainers need, under the name by which they call it.

`/health` alone answers 200 even when every call is refused or the database is down.
"""

import configparser
import sys
from pathlib import Path

import requests

SERVER = "http://127.0.0.1:5000/api/2.0"
CREDENTIALS = Path("/run/secrets/mlflow_reader")


def main() -> None:
    """Request an experiment and artifacts; exit at the first failure."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(CREDENTIALS)
    account = parser["mlflow"]
    session = requests.Session()
    session.auth = (account["mlflow_tracking_username"], account["mlflow_tracking_password"])
    session.headers["Host"] = "mlflow:5000"
    for answer in (
        session.post(f"{SERVER}/mlflow/experiments/search", json={"max_results": 1}, timeout=8),
        session.get(f"{SERVER}/mlflow-artifacts/artifacts", timeout=8),
    ):
        if not answer.ok:
            sys.exit(f"{answer.status_code} {answer.text[:200]}")


if __name__ == "__main__":
    main()
