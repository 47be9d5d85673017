from .analysis import analyse_run as analyse_run
from .placement import Placement as Placement
from .result import TrialResult as TrialResult
from .trial import train as train
