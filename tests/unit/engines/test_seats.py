"""Seats: shares of stand-in devices, and which devices there are."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.engines.devices import Device, Gpu, memory_of, visible_gpus
from lab.engines.seats import Seat, Seats, Sharing, memory_size
from lab.errors import ConfigError, ResourceError

GB = 10**9
TWO = (Device("2"), Device("GPU-6e3b"))


def shares(devices: tuple[Device, ...], share: Fraction = Fraction(1)) -> dict[Device, Fraction]:
    return dict.fromkeys(devices, share)


def names(sharing: Sharing, count: int, gpu_memory: int | None = None) -> list[str]:
    """Return the devices of so many workers that start one after the other, as far as there is room."""
    seats = sharing.seats()
    taken = [seats.take(sharing.shares(gpu_memory)) for _ in range(count)]
    return [seat.device.name for seat in taken if seat is not None]


def test_the_device_with_most_free_room_comes_first() -> None:
    seats = Seats(TWO)
    first, second = (seats.take(shares(TWO, Fraction(1, 2))) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.device, second.device) == TWO
    seats.free(second)
    assert seats.take(shares(TWO)) == Seat(TWO[1])
    assert seats.take(shares(TWO)) is None


def test_a_replaced_worker_gets_the_seat_that_became_free() -> None:
    seats = Seats(TWO)
    _, second = seats.take(shares(TWO)), seats.take(shares(TWO))
    assert second is not None
    for _ in range(3):
        assert seats.take(shares(TWO)) is None
        seats.free(second)
        assert seats.take(shares(TWO)) == second


def test_what_nobody_has_cannot_be_freed() -> None:
    with pytest.raises(ValueError, match="not in list"):
        Seats(TWO).free(Seat(TWO[0]))


@given(
    devices=st.integers(1, 4),
    most=st.none() | st.integers(1, 6),
    moves=st.lists(st.tuples(st.booleans(), st.fractions(min_value="1/64", max_value=2), st.integers(0))),
)
def test_never_more_than_the_whole_is_taken_and_all_comes_back(
    devices: int, most: int | None, moves: list[tuple[bool, Fraction, int]]
) -> None:
    there = tuple(Device(str(index)) for index in range(devices))
    seats, taken = Seats(there, most), list[Seat]()
    for takes, share, which in moves:
        if takes or not taken:
            fits = any(share <= seats.room(device) for device in there) and len(taken) != most
            seat = seats.take(shares(there, share))
            assert (seat is not None) == fits
            taken += [] if seat is None else [seat]
        else:
            seats.free(taken.pop(which % len(taken)))
        for device in there:
            used = sum(seat.share for seat in taken if seat.device == device)
            assert 0 <= used <= 1
            assert seats.room(device) == 1 - used
        assert most is None or len(taken) <= most
    for seat in taken:
        seats.free(seat)
    assert {seats.room(device) for device in there} == {Fraction(1)}


def test_one_worker_a_gpu_by_default() -> None:
    assert names(Sharing(TWO), 5) == ["2", "GPU-6e3b"]
    assert names(Sharing(TWO, workers=1), 5) == ["2"]


def test_more_workers_than_gpus_share_them_evenly() -> None:
    assert names(Sharing(TWO, workers=3), 5) == ["2", "GPU-6e3b", "2"]
    assert names(Sharing(TWO, workers=4), 9) == ["2", "GPU-6e3b"] * 2


def test_workers_per_gpu() -> None:
    sharing = Sharing(TWO, per_gpu=3)
    assert names(sharing, 9) == ["2", "GPU-6e3b"] * 3
    assert names(Sharing(TWO, workers=4, per_gpu=3), 9) == ["2", "GPU-6e3b"] * 2
    assert (
        names(sharing, 9, gpu_memory=GB) == ["2", "GPU-6e3b"] * 3
    )  # the command line knows better than the study


def test_workers_are_counted_from_the_memory_that_a_trial_needs() -> None:
    devices = (Device("0", 24 * GB), Device("1", 80 * GB))
    found = names(Sharing(devices), 99, gpu_memory=6 * GB)
    assert (found.count("0"), found.count("1")) == (4, 13)
    assert names(Sharing(devices, gpu_memory=40 * GB), 9, gpu_memory=GB) == ["1", "1"]  # GPU 0 is too small


def test_studies_with_different_needs_share_a_gpu() -> None:
    sharing = Sharing((Device("0", 24 * GB),))
    seats = sharing.seats()
    assert seats.take(sharing.shares(16 * GB)) is not None
    assert seats.take(sharing.shares(16 * GB)) is None
    assert seats.take(sharing.shares(8 * GB)) is not None
    assert seats.take(sharing.shares(1)) is None


def test_gpus_too_small_for_one_trial() -> None:
    sharing = Sharing((Device("0", 8 * GB), Device("1", 12 * GB)))
    with pytest.raises(ResourceError, match=r"a trial needs 16 GB, but GPU 0 has 8 GB, GPU 1 has 12 GB"):
        sharing.shares(16 * GB)


def test_two_answers_to_one_question() -> None:
    with pytest.raises(ConfigError, match=r"--workers-per-gpu and --gpu-memory .* only one"):
        Sharing(TWO, per_gpu=2, gpu_memory=GB)


@pytest.mark.parametrize(
    ("text", "size"), [("6GB", 6 * GB), ("500 MiB", 500 * 2**20), ("1.5g", 1_500_000_000)]
)
def test_sizes(text: str, size: int) -> None:
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["6", "-6GB", "much", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--gpu-memory takes a size with its unit, such as 6GB, but got"):
        memory_size(text)


def test_without_a_gpu_there_is_a_seat_a_core() -> None:
    cpu = (Device("cpu", workers=4),)
    assert len(names(Sharing(cpu), 9)) == 4
    assert len(names(Sharing(cpu, workers=2), 9)) == 2
    assert len(names(Sharing(cpu, workers=7), 9)) == 7
    assert len(names(Sharing(cpu, per_gpu=3), 9, gpu_memory=GB)) == 4


def test_which_seats_are_shared() -> None:
    assert Seat(TWO[0], Fraction(1, 2)).is_shared
    assert not Seat(TWO[0]).is_shared
    assert not Seat(Device("cpu"), Fraction(1, 2)).is_shared


@pytest.mark.parametrize(
    ("listed", "count", "found"),
    [
        (None, 2, ["0", "1"]),
        (None, 0, []),
        ("2,3", 2, ["2", "3"]),
        (" 2 , 3 ", 2, ["2", "3"]),
        ("3,2,2", 3, ["3", "2"]),
        ("1,7", 1, ["1"]),  # there is no 7
        ("1,-1,0", 1, ["1"]),
        ("", 0, []),
        ("-1", 0, []),
        ("2,3", 0, []),  # a torch without CUDA
        ("GPU-6e3b,GPU-77ab", 2, ["GPU-6e3b", "GPU-77ab"]),
        ("MIG-1a,MIG-2b,MIG-3c", 1, ["MIG-1a", "MIG-2b", "MIG-3c"]),
    ],
)
def test_a_list_from_outside_is_followed(listed: str | None, count: int, found: list[str]) -> None:
    assert visible_gpus(listed, count) == found


UNEQUAL = [Gpu("GPU-6e3b-01", 24), Gpu("GPU-77ab-02", 80), Gpu("MIG-1a-03", 10)]


@pytest.mark.parametrize(
    ("name", "gpus", "in_order", "memory"),
    [
        ("1", UNEQUAL, True, 80),
        ("1", UNEQUAL, False, None),  # CUDA may have them in another order
        ("7", UNEQUAL, True, None),
        ("1", [Gpu("GPU-6e3b", 24), Gpu("GPU-77ab", 24)], False, 24),
        ("GPU-77ab", UNEQUAL, False, 80),
        ("MIG-1a-03", UNEQUAL, False, 10),
        ("GPU-0000", UNEQUAL, False, None),
        ("0", [], False, None),
    ],
)
def test_memory(name: str, gpus: list[Gpu], in_order: bool, memory: int | None) -> None:
    assert memory_of(name, gpus, in_order=in_order) == memory


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"workers": 0}, "workers must be at least 1, but got 0"),
        ({"per_gpu": -1}, "workers_per_gpu must be at least 1, but got -1"),
        ({"gpu_memory": 0}, "gpu_memory must be at least 1, but got 0"),
    ],
)
def test_there_is_at_least_one_seat(numbers: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        Sharing(TWO, **numbers)
