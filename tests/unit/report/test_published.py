"""A page of results of which some studies are in other stores: their sections stay as they were."""

from __future__ import annotations

from typing import Any

import pytest

from lab.config import parse_grid
from lab.report import published, results_document
from lab.report.published import Published
from tests.unit.report.test_rows import GRID, page_and_rows

COMMENT = "| its | own |\n| --- | --- |\n| table | here |\n\n### And a heading\n\nwith a | bar."


def page(studies: Any, comments: Any = ()) -> str:
    return results_document(studies, dict(comments), "lab results")


def test_a_study_of_another_store_keeps_its_section(memory_study: Any) -> None:
    grid, document, _ = page_and_rows(memory_study, GRID.replace("Rates help", "Rates | help"))
    kept = published(document, "s")
    assert isinstance(kept, Published)
    assert page([(grid, kept)]) == document


def test_a_section_does_not_end_at_a_heading_of_its_description(memory_study: Any) -> None:
    described = GRID.replace("name: s", 'name: s\ndescription: "Why?\\n\\n## Setup\\n\\nTwo folders."')
    grid, document, _ = page_and_rows(memory_study, described)
    assert "\n## Setup\n" in document
    assert page([(grid, published(document, "s"))]) == document


def test_between_other_sections_and_with_new_comments(memory_study: Any) -> None:
    grid, document, _ = page_and_rows(memory_study)
    other = parse_grid(GRID.replace("name: s", "name: a"), "grids/a.yaml")
    kept = published(document, "s")
    both = page([(other, None), (grid, kept)], {"s": COMMENT})
    assert published(both, "s") == kept
    assert published(both, "a") is None
    again = page([(other, None), (grid, published(both, "s"))], {"s": "New words."})
    assert COMMENT not in again
    assert "\n\nNew words.\n\n## Not run here\n\n- a\n" in again
    assert "Of 8 claims: " in again
    assert "4 not run." in again


def test_a_claim_that_is_new_was_not_run(memory_study: Any) -> None:
    _, document, _ = page_and_rows(memory_study)
    more = parse_grid(f"{GRID}  - {{claim: More, cells: {{net: plain}}, below: 0.5}}\n", "grids/s.yaml")
    after = page([(more, published(document, "s"))])
    assert "| More | not run | – | – | – | s |" in after
    assert "1 not run." in after


@pytest.mark.parametrize("text", ["", "# Results\n\n## sx\n\ntext\n"])
def test_a_page_without_the_study(text: str) -> None:
    assert published(text, "s") is None
