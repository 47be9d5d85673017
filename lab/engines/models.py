"""The trained models of runs put to use: predictions, files for other programs, and the registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.engines.single import find_stored
from lab.engines.stores import Stores
from lab.errors import TrackingError
from lab.files import check_folder
from lab.report import model_card
from lab.tracking import Registered
from lab.tracking.tags import Tag
from lab.trained import Prediction, TrainedModel, export, find_pictures, load_trained, predict

__all__ = ["RegisteredModel", "export_stored", "predict_stored", "register_stored"]

_CARD = "model_card.md"


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a registered model, the run that it came from, and the experiment of that."""

    version: Registered
    run_id: str
    experiment: str


def predict_stored(
    run: str, stores: Stores, paths: Sequence[Path], *, top: int = 1, device: str | None = None
) -> tuple[TrainedModel, Iterator[Prediction]]:
    """Return the model of a run, and what it says about pictures, which are read as they are asked for.

    Args:
        run: as `lab.restore.find_run` takes it.
        stores: where it is kept.
        paths: of pictures, and of folders of them.
        top: how many classes to tell of each.
        device: where the model runs; None for that of the run's config.

    Raises:
        LabError: as `find_stored`, `find_pictures` and `load_trained`.
    """
    pictures = find_pictures(paths)
    tracker, run_id = find_stored(run, stores)
    model = load_trained(tracker, run_id, device)
    return model, predict(model, pictures, top)


def export_stored(run: str, stores: Stores, form: str, out: Path) -> TrainedModel:
    """Write the model of a run to a file for other programs, and return it.

    Args:
        run: as `lab.restore.find_run` takes it.
        stores: where it is kept.
        form: one of `lab.trained.FORMATS`.
        out: the file.

    Raises:
        ConfigError: the folder of `out` does not exist.
        LabError: as `find_stored`, `load_trained` and `export`.
    """
    check_folder(out)
    tracker, run_id = find_stored(run, stores)
    model = load_trained(tracker, run_id, "cpu")
    export(model, form, out)
    return model


def register_stored(
    study: str | None, stores: Stores, name: str, *, run: str | None = None, aliases: Sequence[str] = ()
) -> RegisteredModel:
    """Register the best model of a study, or that of a run, and keep its model card in the run.

    Args:
        study: the study's name, or best:NAME, as other commands call its best run; None if `run` is given.
        stores: where it is kept.
        name: of the registered model.
        run: another run of the study, or any run; as `lab.restore.find_run` takes it.
        aliases: of the version.

    Raises:
        TrackingError: there is no such study or run, it has no model, or the store refuses a name.
    """
    study = study and study.removeprefix("best:")
    tracker, run_id = find_stored(run or f"best:{study}", stores)
    theirs = tracker.tags(run_id).get(Tag.STUDY)
    if study is not None and theirs != study:
        raise TrackingError(f"Run {run_id} is not of the study {study}, but of {theirs or 'no study'}")
    card = model_card(tracker, run_id, name, aliases)
    version = tracker.register(run_id, name, aliases=aliases, description=card.body)
    tracker.attach(run_id).log_text(card.text, _CARD)
    return RegisteredModel(version, run_id, tracker.experiment_of(run_id))
