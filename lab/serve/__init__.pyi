from .importing import Imported as Imported
from .importing import import_home as import_home
