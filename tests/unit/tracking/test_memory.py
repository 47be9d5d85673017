from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from lab.tracking import MemoryTracker

names = st.sampled_from(["loss", "accuracy", "lr"])
histories = st.dictionaries(
    st.integers(0, 50), st.dictionaries(names, st.floats(allow_nan=False), max_size=3), max_size=20
)
params = st.dictionaries(st.sampled_from("abcd"), st.text(max_size=3))


def points(*histories: Mapping[int, Mapping[str, float]], at_once: bool) -> dict[str, dict[int, float]]:
    tracker = MemoryTracker()
    run = tracker.open_run(name="x", experiment=tracker.experiment("x"), tags={})
    for history in histories:
        if at_once:
            run.log_history(history)
        else:
            for step, metrics in history.items():
                run.log_metrics(metrics, step)
    return {name: tracker.history(run.run_id, name) for name in ("loss", "accuracy", "lr")}


@given(histories)
def test_history_is_its_steps_one_by_one(history: dict[int, dict[str, float]]) -> None:
    assert points(history, at_once=True) == points(history, at_once=False)


@given(histories)
def test_what_is_logged_twice_is_logged_once(history: dict[int, dict[str, float]]) -> None:
    assert points(history, history, at_once=True) == points(history, at_once=True)


@given(histories)
def test_history_comes_back_in_order(history: dict[int, dict[str, float]]) -> None:
    for name, found in points(history, at_once=True).items():
        expected = {step: history[step][name] for step in sorted(history) if name in history[step]}
        assert list(found.items()) == list(expected.items())


@given(st.lists(params, max_size=5))
def test_the_first_value_of_a_param_stays(logged: list[dict[str, str]]) -> None:
    tracker = MemoryTracker()
    experiment = tracker.experiment("x")
    run = tracker.open_run(name="x", experiment=experiment, tags={})
    expected: dict[str, str] = {}
    for each in logged:
        run.log_params(each)
        expected = each | expected
    found = tracker.runs(experiment).iloc[0]
    assert {name: found[f"params.{name}"] for name in expected} == expected
