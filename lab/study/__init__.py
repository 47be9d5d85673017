"""Studies: planning cells, queueing them as Optuna trials, claiming and training them."""

from lab.study.events import EpochEnded, Event, TrialEnded, TrialStarted, WorkerFailed
from lab.study.origins import check_stored_origins
from lab.study.planner import Cell, PlannedCell, Submission, cell_states, feasible_cells, plan, submit
from lab.study.queue import TrialQueue
from lab.study.search import PRUNERS, SAMPLERS, check_search
from lab.study.slots import search_is_over
from lab.study.status import StudyStatus, find_queue, study_names, study_status
from lab.study.storage import database_exists, display_url, open_storage
from lab.study.worker import WorkerSettings, work

__all__ = [
    "PRUNERS",
    "SAMPLERS",
    "Cell",
    "EpochEnded",
    "Event",
    "PlannedCell",
    "StudyStatus",
    "Submission",
    "TrialEnded",
    "TrialQueue",
    "TrialStarted",
    "WorkerFailed",
    "WorkerSettings",
    "cell_states",
    "check_search",
    "check_stored_origins",
    "database_exists",
    "display_url",
    "feasible_cells",
    "find_queue",
    "open_storage",
    "plan",
    "search_is_over",
    "study_names",
    "study_status",
    "submit",
    "work",
]
