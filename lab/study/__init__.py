"""Studies: planning cells, queueing them as Optuna trials, claiming and training them."""

from lab.study.earlier import Earlier, end_stale
from lab.study.events import EpochEnded, Event, TrialEnded, TrialLost, TrialStarted, WorkerFailed
from lab.study.health import StorageProbe
from lab.study.origins import check_stored_origins
from lab.study.planner import (
    Cell,
    Comparison,
    PlannedCell,
    Submission,
    cell_states,
    compare,
    feasible_cells,
    plan,
    submit,
    trial_state,
)
from lab.study.queue import TrialQueue
from lab.study.record import TrialRecord
from lab.study.runs import StudyRuns, study_runs
from lab.study.search.budget import end_if_over
from lab.study.search.methods import PRUNERS, SAMPLERS, check_search
from lab.study.status import (
    StudyStatus,
    best_value,
    find_queue,
    known_studies,
    run_ids,
    statuses,
    study_names,
    study_status,
    winner,
)
from lab.study.storage import HEARTBEAT_SECONDS, database_exists, display_url, open_storage
from lab.study.studies import Studies, not_labs, open_study, reason
from lab.study.worker import WorkerSettings, work

__all__ = [
    "HEARTBEAT_SECONDS",
    "PRUNERS",
    "SAMPLERS",
    "Cell",
    "Comparison",
    "Earlier",
    "EpochEnded",
    "Event",
    "PlannedCell",
    "StorageProbe",
    "Studies",
    "StudyRuns",
    "StudyStatus",
    "Submission",
    "TrialEnded",
    "TrialLost",
    "TrialQueue",
    "TrialRecord",
    "TrialStarted",
    "WorkerFailed",
    "WorkerSettings",
    "best_value",
    "cell_states",
    "check_search",
    "check_stored_origins",
    "compare",
    "database_exists",
    "display_url",
    "end_if_over",
    "end_stale",
    "feasible_cells",
    "find_queue",
    "known_studies",
    "not_labs",
    "open_storage",
    "open_study",
    "plan",
    "reason",
    "run_ids",
    "statuses",
    "study_names",
    "study_runs",
    "study_status",
    "submit",
    "trial_state",
    "winner",
    "work",
]
