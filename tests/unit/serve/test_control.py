from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.errors import ResourceError
from lab.serve.control import start_detached
from lab.serve.home import Home


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".lab").write_text("a file")
    with pytest.raises(ResourceError, match=r"\.lab/server cannot be written: Not a directory"):
        start_detached(tmp_path / ".lab", [])


def test_what_an_earlier_one_said_is_no_reason_for_the_end_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / ".lab")
    home.create(passable=False)
    home.log("serve").write_text("Error: of an earlier one\n")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ResourceError, match=r"^it exited with code 1$"):
        start_detached(home.folder, [])
