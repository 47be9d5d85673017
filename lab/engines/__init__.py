"""Places workers: processes on this machine."""

from lab.engines.control import Counts, cancel, resume, retry
from lab.engines.ending import SweepResult
from lab.engines.local import sweep
from lab.engines.planning import submit
from lab.engines.progress import Progress, Running
from lab.engines.service import Served, serve
from lab.engines.stores import Stores
from lab.engines.watching import watch

__all__ = [
    "Counts",
    "Progress",
    "Running",
    "Served",
    "Stores",
    "SweepResult",
    "cancel",
    "resume",
    "retry",
    "serve",
    "submit",
    "sweep",
    "watch",
]
