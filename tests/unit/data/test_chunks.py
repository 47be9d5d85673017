"""Work on files in chunks, by threads."""

from __future__ import annotations

import threading

import pytest

from lab.data import by_chunks, chunks


@pytest.mark.parametrize("count", [0, 1, 7, 8, 100])
def test_results_come_in_order_and_cover_everything(count: int) -> None:
    found = [
        each
        for chunk in by_chunks(count, lambda start, stop: range(start, stop), "", size=8)
        for each in chunk
    ]
    assert found == list(range(count))


def test_threads_do_not_run_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks.joblib, "cpu_count", lambda: 2)
    started: list[int] = []
    first = threading.Event()

    def work(start: int, stop: int) -> int:
        started.append(start)
        first.set()
        return start

    found = by_chunks(1000, work, "", size=1)
    assert next(found) == 0
    assert first.is_set()
    for expected in range(1, 50):
        assert next(found) == expected
        assert len(started) <= expected + 5  # this one, and two for each core
    found.close()
    assert len(started) < 100


def test_an_error_ends_it() -> None:
    def work(start: int, stop: int) -> int:
        raise ValueError(f"chunk {start}")

    with pytest.raises(ValueError, match="chunk 0"):
        list(by_chunks(1000, work, "", size=1))
