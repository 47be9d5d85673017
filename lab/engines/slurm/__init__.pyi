from .detached import submit_detached as submit_detached
from .launcher import SlurmLauncher as SlurmLauncher
