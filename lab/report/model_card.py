"""The model card of a registered model, in the form of MLflow's and Hugging Face's: what it is, how good, its limits.

Model cards are from Mitchell et al. 2019, https://arxiv.org/abs/1810.03993; the header is that of the Hugging Face Hub.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
import yaml

from lab.data import INTAKE, Intake
from lab.errors import DataError
from lab.report.statistics import accuracy_interval
from lab.tracking import RunRecord, Tracker, run_page
from lab.tracking.markup import code, literal
from lab.tracking.tags import Tag
from lab.wording import counted

__all__ = ["ModelCard", "model_card"]

_PER_CLASS, _CONFUSED = "errors/per_class.csv", "errors/most_confused.json"
_MOST_CLASSES: Final = 30
_MOST_PAIRS: Final = 5
_FIGURES: Final = {"test_macro_f1": "macro F1", "test_worst_class_accuracy": "accuracy of the worst class"}
_SOFTWARE: Final = {"lab": Tag.VERSION, "Python": Tag.PYTHON, "torch": Tag.TORCH}


@dataclass(frozen=True)
class ModelCard:
    """A model card: the model's name, the metadata, as YAML, and the body, as Markdown."""

    name: str
    header: str
    body: str

    @property
    def text(self) -> str:
        """All of it, as a file."""
        return f"---\n{self.header}---\n\n# {literal(self.name)}\n\n{self.body}"


def model_card(tracker: Tracker, run_id: str, name: str, aliases: Sequence[str] = ()) -> ModelCard:
    """Return the card of a run's model; what the run does not tell is left out.

    Args:
        tracker: where the run is.
        run_id: its whole id.
        name: under which the model is registered.
        aliases: of its version.

    Raises:
        TrackingError: there is no such run, or the store failed.
    """
    facts = _facts(tracker, run_id)
    address = f"models:/{name}@{aliases[0]}" if aliases else f"runs:/{run_id}"
    body = "\n\n".join([_what(facts), *_sections(facts, address)]) + "\n"
    return ModelCard(name, _header(facts, name), body)


@dataclass(frozen=True)
class _Facts:
    """What a run tells about its model; `digests` are those of its data, `images` counts its test images."""

    record: RunRecord
    experiment: str
    digests: Mapping[str, str]
    rivals: int
    intake: Intake | None
    per_class: pd.DataFrame
    confused: list[dict[str, Any]] = field(default_factory=list)

    def param(self, name: str) -> str:
        return self.record.params.get(name, "")

    def tag(self, name: str) -> str:
        return self.record.tags.get(name, "")

    @property
    def images(self) -> int:
        return 0 if self.per_class.empty else int(self.per_class["images"].sum())


def _facts(tracker: Tracker, run_id: str) -> _Facts:
    record, experiment = tracker.record(run_id), tracker.experiment_of(run_id)
    study = record.tags.get(Tag.STUDY)
    tags = {Tag.STUDY: study or "", Tag.KIND: "trial"}
    texts = {path: _text(tracker, run_id, path) for path in (INTAKE, _PER_CLASS, _CONFUSED)}
    return _Facts(
        record,
        experiment,
        dict(tracker.dataset_digests(run_id)),
        len(tracker.find_runs(experiment, tags)) if study else 0,
        _read_intake(texts[INTAKE]),
        pd.read_csv(io.StringIO(texts[_PER_CLASS])) if texts[_PER_CLASS] else pd.DataFrame(),
        json.loads(texts[_CONFUSED] or "[]"),
    )


def _text(tracker: Tracker, run_id: str, path: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = tracker.download(run_id, path, Path(folder))
        return "" if file is None else file.read_text()


def _read_intake(text: str) -> Intake | None:
    try:
        return Intake.from_json(text) if text else None
    except DataError:
        return None


def _what(facts: _Facts) -> str:
    """Return the first lines; the UI shows the very first in lists of versions, as it is."""
    study, metrics = facts.tag(Tag.STUDY), facts.record.metrics
    what = f"Image classifier of the study {literal(study)}" if study else "Image classifier"
    if "test_accuracy" in metrics:
        what += f", test accuracy {metrics['test_accuracy']:.2%}"
    details = [literal(facts.param("architecture"))] if facts.param("architecture") else []
    if "params" in metrics:
        details.append(f"{metrics['params']:,.0f} parameters")
    if facts.intake is not None:
        details.append(f"images of {'×'.join(map(str, facts.intake.shape))}")
    what += f": {', '.join(details)}." if details else "."
    page = run_page(facts.experiment, facts.record.run_id).removeprefix("/")
    return f"{what}\n\nFrom the run [{literal(facts.record.name)}]({page})."


def _sections(facts: _Facts, address: str) -> Iterator[str]:
    yield from _section("Data", _data(facts))
    yield from _section("Figures", _figures(facts))
    yield from _section("Most confused", _confused(facts))
    yield from _section("Limits", _limits(facts))
    if facts.intake is not None:  # without it, neither command knows what to do with a picture
        yield "## Use\n\n" + _use(address)
    yield from _section("Made with", _made_with(facts))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    text = "\n".join(f"- {line}" for line in lines)
    if text:
        yield f"## {title}\n\n{text}"


def _data(facts: _Facts) -> Iterator[str]:
    for name, digest in sorted(facts.digests.items()):
        yield f"{literal(name)}, digest {code(digest)}"
    if images := facts.tag(Tag.IMAGES):
        yield f"images: {literal(images)}"
    if facts.intake is not None:
        names = [literal(name) for name in facts.intake.classes]
        more = len(names) - _MOST_CLASSES
        shown = ", ".join(names[:_MOST_CLASSES]) + (f" and {more:,} more" if more > 0 else "")
        yield f"{len(names):,} classes: {shown}"


def _figures(facts: _Facts) -> Iterator[str]:
    metrics, images = facts.record.metrics, facts.images
    accuracy = metrics.get("test_accuracy")
    if accuracy is not None:
        interval = ""
        if images:
            low, high = accuracy_interval(round(accuracy * images), images)
            interval = f" (95 % interval {low:.2%} to {high:.2%}, {images:,} test images)"
        yield f"test accuracy {accuracy:.2%}{interval}"
    yield from (f"{words} {metrics[name]:.4f}" for name, words in _FIGURES.items() if name in metrics)
    if "best_value" in metrics:
        yield f"best {code(facts.param('monitor') or 'value')} {metrics['best_value']:.4f}"


def _confused(facts: _Facts) -> Iterator[str]:
    for pair in facts.confused[:_MOST_PAIRS]:
        true, predicted = literal(str(pair["true"])), literal(str(pair["predicted"]))
        yield f"{true} taken for {predicted}: {counted(pair['count'], 'image')}, {pair['share']:.1%} of {true}"


def _limits(facts: _Facts) -> Iterator[str]:
    yield "It names one of its classes for every picture, also for one that shows none of them."
    yield "The figures hold for pictures like those of the test split; others were not tried."
    if facts.rivals > 1:
        yield f"It was chosen among {facts.rivals:,} trials by its validation split, not by the test split."


def _use(address: str) -> str:
    return "\n".join(
        [
            "```",
            f"lab predict {address} IMAGE…",
            f"mlflow models serve -m {address if address.startswith('models:') else address + '/model'}"
            " --env-manager local",
            "```",
        ]
    )


def _made_with(facts: _Facts) -> Iterator[str]:
    versions = [f"{name} {literal(text)}" for name, tag in _SOFTWARE.items() if (text := facts.tag(tag))]
    if versions:
        yield ", ".join(versions)
    if commit := facts.tag(Tag.COMMIT):
        yield f"commit {code(commit[:12])}"
    yield "all settings: `config.yaml` in the run's artifacts"


def _header(facts: _Facts, name: str) -> str:
    """Return the metadata that the Hugging Face Hub reads."""
    data = facts.param("dataset") or "unknown"
    result: dict[str, Any] = {
        "task": {"type": "image-classification"},
        "dataset": {"type": data, "name": data},
        "metrics": [
            {"type": kind, "name": kind, "value": facts.record.metrics[metric]}
            for kind, metric in (("accuracy", "test_accuracy"), ("f1", "test_macro_f1"))
            if metric in facts.record.metrics
        ],
    }
    header = {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "mlflow"],
        "model-index": [{"name": name, "results": [result]}],
    }
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
