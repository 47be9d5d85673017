"""Opening MLflow's client: a database that is out of reach is reported at once."""

import time

import pytest

from lab.errors import TrackingError
from lab.tracking.base import UnavailableError
from lab.tracking.client import open_client
from tests.servers import dead_port


def test_a_database_that_refuses_connections_is_reported_within_seconds() -> None:
    """MLflow alone tries ten times, for 100 seconds, and keeps everything else in the process waiting."""
    address = f"postgresql+psycopg://lab:secret-word@127.0.0.1:{dead_port()}/lab"
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"Connecting failed at postgresql.*refused") as raised:
        open_client(address)
    assert time.monotonic() - began < 60
    assert "secret-word" not in str(raised.value)


def test_a_database_whose_driver_is_missing_is_one_clear_error() -> None:
    with pytest.raises(TrackingError, match=r"Connecting failed at mysql.*No module named 'cymysql'"):
        open_client("mysql+cymysql://lab@127.0.0.1/lab")
