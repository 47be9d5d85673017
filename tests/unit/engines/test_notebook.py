"""The progress of a sweep in a notebook."""

from __future__ import annotations

from typing import Any

from lab.engines import Progress, Running
from lab.engines.notebook import NotebookProgress, notebook_progress


class Output:
    """A notebook's output, as IPython's `display` makes it."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.made = 0

    def display(self, what: Any, *, display_id: bool) -> Output:
        assert display_id
        self.made += 1
        self.update(what)
        return self

    def update(self, what: Any) -> None:
        self.shown.append(what._repr_mimebundle_((), ())["text/plain"])


def test_one_output_shows_the_newest_progress() -> None:
    output, progress = Output(), Progress("digits", "val_accuracy", maximize=True, total=3)
    show = NotebookProgress(output.display)
    show(progress)
    progress.running[0] = Running("[b]lr=0.1", 5, 2, 0.75)
    progress.improve("lr=0.3", 0.875)
    show(progress)
    assert output.made == 1
    assert "digits: 0/3 done" in output.shown[0]
    assert "[b]lr=0.1" in output.shown[1]
    assert "best val_accuracy 0.8750 (lr=0.3)" in output.shown[1]


def test_nothing_is_shown_outside_of_a_notebook() -> None:
    assert notebook_progress() is None
