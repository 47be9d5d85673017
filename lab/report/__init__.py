"""What a study found, read back from its runs; nothing here writes to a study."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
