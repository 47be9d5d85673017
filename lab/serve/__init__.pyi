from .serving import Started as Started
from .serving import serve as serve
