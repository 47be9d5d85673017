"""The page of a report: one file, with its figures in plotly's form, in which texts of a study stay texts."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects as go
import pytest

from lab.page import REPORT, log_report_if_quick, render_page
from lab.report import report_of
from tests.memory_study import MemoryStudy, many_trials

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}</title>"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text in each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data


def page_of(*studies: MemoryStudy) -> str:
    return render_page(report_of([study.source() for study in studies], studies[0].tracker))


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(many_trials(cells=24, epochs=3))


@pytest.fixture(scope="module")
def elements(page: str) -> Elements:
    return Elements(page)


def figures(elements: Elements) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(elements.scripts[0])
    return found


def test_every_figure_is_one_that_plotly_takes(elements: Elements) -> None:
    drawn = [
        go.Figure(figure) for figure in figures(elements)
    ]  # raises for any unknown or malformed attribute
    assert [figure.data[0].type for figure in drawn[:2]] == ["bar", "scatter"]
    assert {"heatmap", "scatter", "bar"} == {trace.type for figure in drawn for trace in figure.data}
    places = [attrs["id"] for _, attrs in elements.found if attrs.get("class") == "plot"]
    assert places == [f"figure-{number}" for number in range(len(drawn))]


def test_a_figure_says_in_words_what_it_shows(elements: Elements) -> None:
    said = [attrs.get("aria-label") or "" for _, attrs in elements.found if attrs.get("class") == "plot"]
    assert all(len(text) > 20 for text in said)


def test_nothing_is_fetched_from_anywhere(page: str, elements: Elements) -> None:
    for tag, attrs in elements.found:
        assert not (attrs.get("src") or "").strip(), tag
        assert (attrs.get("href") or "#").startswith(("#", "data:")), tag
    policy = next(attrs["content"] for _, attrs in elements.found if attrs.get("http-equiv"))
    assert (policy or "").startswith("default-src 'none'; script-src 'sha256-")


def test_only_the_scripts_with_their_hash_in_the_policy_run(page: str, elements: Elements) -> None:
    policy = next(attrs["content"] for _, attrs in elements.found if attrs.get("http-equiv")) or ""
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    _, *scripts = elements.scripts
    assert [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts] == allowed
    assert "unsafe" not in policy.split("style-src")[0]


def test_texts_of_a_study_stay_texts() -> None:
    study = MemoryStudy(("net", "lr"))
    for lr, value in zip("123456", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), strict=True):
        for net in (EVIL, "plain"):
            tags = {"lab.error": EVIL, "lab.device": EVIL}
            facts = {"params": 10 * value, "seconds": value}
            study.trial({"net": net, "lr": lr, "dataset": EVIL}, EVIL, tags=tags, best_value=value, **facts)
    page = page_of(study)
    elements = Elements(page)
    assert [tag for tag, attrs in elements.found if tag in ("img", "iframe") or "onerror" in attrs] == []
    assert len(elements.scripts) == 3
    assert "{{7*7}}" in page
    texts = json.dumps(figures(elements))
    assert "<script" not in texts
    assert "<img" not in texts
    assert "&lt;script" in texts


def test_the_best_row_comes_with_its_command(page: str) -> None:
    code = re.search(r'<code id="command-0-1">(.*?)</code>', page)
    assert code is not None
    assert re.sub("<[^>]+>", "", code[1]).startswith("lab train --")


def test_several_studies_have_a_section_each_and_a_leaderboard_together() -> None:
    study = many_trials(cells=2, epochs=2)
    elements = Elements(page_of(study, study))
    assert {"board-0", "board-1", "board-all"} <= {attrs.get("id") for _, attrs in elements.found}


def test_a_report_of_nothing_says_so() -> None:
    page = page_of(MemoryStudy(("lr",)))
    assert "No trial has started yet." in page
    assert figures(Elements(page)) == []


def test_a_report_is_an_artifact_of_the_studys_run() -> None:
    study = many_trials(cells=2, epochs=2)
    log_report_if_quick(study.parent, study.source(), study.tracker)
    assert study.tracker.artifacts(study.parent.run_id)[REPORT].startswith(b"<!doctype html>")


def test_a_report_that_cannot_be_made_is_only_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = many_trials(cells=2, epochs=2)
    monkeypatch.setattr("lab.page.publish.render_page", None)
    with caplog.at_level(logging.WARNING):
        log_report_if_quick(study.parent, study.source(), study.tracker)
    assert REPORT not in study.tracker.artifacts(study.parent.run_id)
    assert caplog.messages == ["report.html was not made: TypeError: 'NoneType' object is not callable"]


def test_a_report_that_takes_long_is_not_made_and_an_old_one_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    study = many_trials(cells=2, epochs=2)
    study.parent.log_text("old", REPORT)
    monkeypatch.setattr("lab.page.publish._MOST_TRIALS", 5)
    log_report_if_quick(study.parent, study.source(), study.tracker)
    assert REPORT not in study.tracker.artifacts(study.parent.run_id)


def test_a_cell_has_one_colour_and_one_button_in_all_panels() -> None:
    study = MemoryStudy(("lr",))
    for lr, best, metrics in (("1", 0.9, ["val_loss"]), ("2", 0.8, ["val_accuracy", "val_loss"])):
        run_id = study.trial({"lr": lr}, best_value=best)
        study.tracker.attach(run_id).log_history({step: dict.fromkeys(metrics, 0.5) for step in (1, 2)})
    page = page_of(study)
    assert re.findall(r'data-curve="(\d)"', page) == ["0", "1"]
    figures = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    curves = [trace for figure in figures for trace in figure["data"] if "legendgroup" in trace]
    drawn = [(trace["name"], trace["legendgroup"], trace["meta"]["color"]) for trace in curves]
    assert sorted(drawn) == [("1. lr=1", "0", 0), ("2. lr=2", "1", 1), ("2. lr=2", "1", 1)]
