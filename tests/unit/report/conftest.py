"""Studies in memory, without a grid file or any training."""

from __future__ import annotations

import pytest

from tests.memory_study import MemoryStudy


@pytest.fixture
def memory_study() -> type[MemoryStudy]:
    return MemoryStudy
