"""`notify:` of a grid file: it names where addresses are, and never has one."""

from __future__ import annotations

import pytest

from lab.config import NOTIFY_EVENTS, Grid, Notify, parse_grid
from lab.errors import ConfigError


def parsed(notify: str) -> Grid:
    return parse_grid(f"base: {{dataset: synthetic}}\ngrid: {{lr: [0.1]}}\nnotify: {notify}\n", "grid.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("$TEAM_CHAT", Notify(("$TEAM_CHAT",))),
        ("[$CHAT, '${MAIL}', file:/run/hook, $CHAT]", Notify(("$CHAT", "${MAIL}", "file:/run/hook"))),
        ("{to: $TEAM_CHAT, events: [failure, done]}", Notify(("$TEAM_CHAT",), ("failure", "done"))),
        ("{to: [file:~/hook], events: best}", Notify(("file:~/hook",), ("best",))),
        ("null", None),
    ],
)  # fmt: skip
def test_what_it_may_be(text: str, told: Notify | None) -> None:
    assert parsed(text).notify == told


@pytest.mark.parametrize(
    "secret",
    [
        "slack://T1/A1/hunter2",
        "https://hunter2@h/",
        "hunter2",
        "file:///hunter2",
        "[hunter2]",
        "{hunter2: 1}",
    ],
)
def test_an_address_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ConfigError, match=r"grid\.yaml:3: notify") as raised:
        parsed(f"{{to: {secret}}}")
    assert "must name where the address is kept, not be the address" in str(raised.value)
    assert "export LAB_NOTIFY_URL=" in str(raised.value)
    assert "hunter2" not in str(raised.value).replace("notify.to.hunter2", "")


def test_all_faults_are_told() -> None:
    with pytest.raises(ConfigError, match="unknown key") as raised:
        parsed("{too: [], events: [dome, done]}")
    told = str(raised.value)
    assert "notify.too: unknown key. Did you mean" in told
    assert "there is no event 'dome'. Did you mean" in told
    assert f"Known: {', '.join(NOTIFY_EVENTS)}" in told
    assert "notify: needs `to`" in told
    with pytest.raises(ConfigError, match=r"notify: is empty; leave it out"):
        parsed("[]")


def test_it_is_no_part_of_a_cell() -> None:
    grid, told = parsed("null"), parsed("$TEAM_CHAT")
    points = [next(iter(each.space)) for each in (grid, told)]
    assert grid.config(points[0]).cell_hash == told.config(points[1]).cell_hash


def test_it_crosses_processes_and_versions() -> None:
    told = Notify(("$A", "file:b"), ("done",))
    assert Notify.from_values(told.as_values()) == told
    assert Notify.from_values({}) is None
    assert Notify.from_values({"to": ["json://h", "$A", 3], "events": ["later", "done"]}) == Notify(
        ("$A",), ("done",)
    )
