"""Addresses of study databases as they are shown."""

import pytest

from lab.study import display_url
from lab.study.health import StorageProbe


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://lab:s3cret@db/lab", "postgresql://lab:***@db/lab"),
        ("postgresql://lab@db/lab?password=s3cret", "postgresql://lab@db/lab"),
        (
            "postgresql://lab@db/lab?connect_timeout=2&password=s3cret",
            "postgresql://lab@db/lab?connect_timeout=2",
        ),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert display_url(url) == shown


def test_the_command_that_upgrades_a_database_has_no_password() -> None:
    probe = StorageProbe("postgresql+psycopg://lab@db/lab?password=pw")
    assert probe.upgradable_url == "postgresql+psycopg://lab@db/lab"
