from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from lab.errors import StudyError
from lab.study import existing_study


def test_without_any_studies(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    with pytest.raises(
        StudyError, match=r"There is no study 'tiny'\. There are no studies yet: `lab sweep GRID`"
    ):
        existing_study(url, "tiny")
    assert not list(tmp_path.iterdir())


def test_a_study_of_another_program_is_not_labs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    optuna.create_study(storage=url, study_name="theirs").enqueue_trial({"x": 1})
    with pytest.raises(StudyError, match="'theirs' is not lab's"):
        existing_study(url, "theirs")
    with pytest.raises(StudyError, match="There is no study 'their'"):
        existing_study(url, "their")
