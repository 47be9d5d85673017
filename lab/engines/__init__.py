"""Places workers: processes on this machine."""

from lab.engines.local import Stores, SweepResult, sweep
from lab.engines.progress import Progress, Running

__all__ = ["Progress", "Running", "Stores", "SweepResult", "sweep"]
