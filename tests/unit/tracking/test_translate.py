from __future__ import annotations

import re
import traceback

import pytest
import requests
import sqlalchemy.exc
from mlflow.exceptions import MlflowException, RestException

from lab.errors import TrackingError
from lab.tracking.base import DeniedError, UnavailableError, public_uri
from lab.tracking.translate import translated

URI = "https://ann:p%40ss@mlflow.example:5000/base"


def told(error: Exception, uri: str = URI) -> TrackingError:
    with (
        pytest.raises(TrackingError, match="Logging metrics failed at ") as caught,
        translated(uri, "logging metrics"),
    ):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        (URI, "https://mlflow.example:5000/base"),
        ("postgresql://bob:pw@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://bob@db/mlflow?password=pw", "postgresql://db/mlflow"),
        ("postgresql://db/mlflow?password=pw&sslpassword=pw&a=1", "postgresql://db/mlflow?a=1"),
        ("postgresql://db/mlflow?a=1&password=pw&b=2", "postgresql://db/mlflow?a=1&b=2"),
        ("postgresql:///mlflow?host=/run&password=pw", "postgresql:///mlflow?host=/run"),
        ("sqlite:///.lab/mlflow.db", "sqlite:///.lab/mlflow.db"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
    ],
)
def test_public_uri(uri: str, public: str) -> None:
    assert public_uri(uri) == public


@pytest.mark.parametrize(
    "error",
    [
        MlflowException(f"API request to {URI}/api failed with exception Max retries exceeded p%40ss"),
        requests.ConnectionError(f"{URI}: Connection refused"),
        requests.ConnectTimeout("timed out"),
    ],
)
def test_no_answer(error: Exception) -> None:
    found = told(error)
    assert isinstance(found, UnavailableError)
    assert "Is the server running? Start one with `lab ui`" in str(found)
    shown = "".join(traceback.format_exception(found))
    assert "p%40ss" not in shown.replace(f'URI = "{URI}"', "")
    assert "ann" not in str(found)


def _answer(status: int, body: str) -> MlflowException:
    return MlflowException(f"API request failed with error code {status} != 200. Response body: '{body}'")


def _of_an_artifact(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} Client Error: for url: {URI}/x", response=response)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            _answer(401, "You are not authenticated."),
            r"password is wrong or missing \(401\)\. Set",
        ),
        (_of_an_artifact(401), r"password is wrong or missing \(401\)\. Set"),
        (
            _answer(403, "Permission denied"),
            r"this account lacks permission \(403\)\. .*'Permission denied'\.",
        ),
        (_of_an_artifact(403), r"this account lacks permission \(403\)\."),
    ],
)
def test_refused_names_the_credentials(error: Exception, why: str) -> None:
    found = told(error)
    assert type(found) is (DeniedError if "(403)" in str(found) else TrackingError)
    assert re.search(f"/base: {why}|/base: .*{why}", str(found))
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in str(found)
    assert "~/.mlflow/credentials." in str(found)
    assert "p%40ss" not in str(found)


def test_a_server_that_does_not_know_its_name() -> None:
    found = told(_answer(403, "Invalid Host header - possible DNS rebinding attack detected"))
    assert type(found) is TrackingError
    assert "the server does not accept the name mlflow.example (403). Start it with --allowed-hosts" in str(
        found
    )


def test_an_artifact_store_that_is_busy_may_answer_later() -> None:
    assert isinstance(told(_of_an_artifact(503)), UnavailableError)


def test_error_that_will_never_pass_is_told_from_one_that_will() -> None:
    gone = RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run 'x' not found"})
    assert type(told(gone)) is TrackingError
    busy = MlflowException("no", error_code=11)  # TEMPORARILY_UNAVAILABLE
    assert busy.get_http_status_code() != 503 or isinstance(told(busy), UnavailableError)
    late = MlflowException("API request failed with error code 503 != 200")
    assert isinstance(told(late), UnavailableError)


def test_database_out_of_reach() -> None:
    statement = sqlalchemy.exc.OperationalError("INSERT INTO metrics", {}, Exception("database is locked"))
    found = told(statement, "sqlite:///x.db")
    assert isinstance(found, UnavailableError)
    assert "database cannot be reached or is busy" in str(found)
    assert "INSERT" not in str(found)


def test_disk_full_is_told() -> None:
    assert "No space left" in str(told(OSError(28, "No space left on device")))


def test_own_and_unknown_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError, match="by zero"), translated(URI, "dividing"):
        raise ZeroDivisionError("by zero")
    with pytest.raises(TrackingError, match=r"^mine$"), translated(URI, "x"):
        raise TrackingError("mine")


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("path", ["registered-models/create", "model-versions/search"])
def test_a_store_without_a_registry(status: int, path: str) -> None:
    endpoint = f"/api/2.0/mlflow/{path}"
    error = MlflowException(
        f"API request to endpoint {endpoint} failed with error code {status} != 200. Response body: 'Not Found'"
    )
    assert str(told(error)).endswith("this store has no model registry")


def test_a_store_that_lacks_one_model_has_a_registry() -> None:
    missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered model alias none not found."}
    assert "alias none not found" in str(told(RestException(missing)))
