from .analysis import analyse_run as analyse_run
from .lr_range import LrRange as LrRange
from .lr_range import find_lr as find_lr
from .placement import Placement as Placement
from .rehearsal import Pace as Pace
from .rehearsal import rehearse as rehearse
from .result import TrialResult as TrialResult
from .trial import train as train
