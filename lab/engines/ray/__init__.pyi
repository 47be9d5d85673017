from .launcher import RayLauncher as RayLauncher
