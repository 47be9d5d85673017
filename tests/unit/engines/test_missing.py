from __future__ import annotations

import time

from lab.engines.missing import MissingRuns
from tests.servers import free_port


def test_nothing_is_missing_from_a_store_that_answers() -> None:
    missing = MissingRuns("memory")
    assert not missing(["a", "b"])
    assert missing.trouble == ""


def test_a_store_that_does_not_answer_is_asked_once() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    missing = MissingRuns(address)
    assert not missing(["a"])
    assert address in missing.trouble
    began = time.perf_counter()
    for _ in range(100):
        assert not missing(["b"])
    assert time.perf_counter() - began < 0.1
