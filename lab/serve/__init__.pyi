from .control import ServerStatus as ServerStatus
from .control import start_detached as start_detached
from .control import status as status
from .control import stop as stop
from .serving import Started as Started
from .serving import serve as serve
from .upgrading import upgrade as upgrade
