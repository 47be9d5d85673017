"""Where lab says that people find what was tracked."""

from __future__ import annotations

import pytest

from lab.cli.messages import browse, shown_address


def test_an_address_shows_no_password() -> None:
    assert shown_address("http://me:t0p-s3cret@host:5000") == "http://me:***@host:5000"


def test_in_a_container_links_lead_to_where_people_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert browse("http://mlflow:5000", "7").startswith("Browse it: http://mlflow:5000/#/experiments/7/")
    monkeypatch.setenv("LAB_PUBLIC_URL", "https://lab.example.org/")
    assert browse("http://mlflow:5000", "7").startswith("Browse it: https://lab.example.org/#/experiments/7/")
