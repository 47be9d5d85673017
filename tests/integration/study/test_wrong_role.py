"""PostgreSQL with passwords: a wrong one is one error at once, a right one may come from a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lab.errors import StudyError
from lab.study import open_storage

pytestmark = pytest.mark.postgres


@pytest.fixture
def address(own_postgres: Any) -> str:
    """Of a database, with `ROLE` for the role."""
    url = str(own_postgres.database())
    own_postgres.create_role("team", "s3cret")
    return url.replace("lab@", "ROLE@")


@pytest.mark.parametrize(
    "wait", [False, True]
)  # True: as a worker's process, which waits for one that restarts
def test_a_wrong_password(address: str, wait: bool) -> None:
    began = time.monotonic()
    wrong = r"--storage postgresql://team:\*\*\*@.* cannot be opened: .*password authentication failed.* PGPASSFILE"
    with pytest.raises(StudyError, match=wrong):
        open_storage(address.replace("ROLE", "team:wrong"), wait=wait)
    with pytest.raises(StudyError, match=r"no password supplied\. Name role and password in the address, or"):
        open_storage(address.replace("ROLE", "team"), wait=wait)
    assert time.monotonic() - began < 60


def test_a_password_from_a_file(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pgpass"
    file.write_text("127.0.0.1:*:*:team:s3cret\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert open_storage(address.replace("ROLE", "team")).get_all_studies() == []
