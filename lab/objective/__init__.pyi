from .analysis import analyse_run as analyse_run
from .result import TrialResult as TrialResult
from .trial import Placement as Placement
from .trial import train as train
