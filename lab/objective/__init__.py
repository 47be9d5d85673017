"""One trial, from a config to its tracked result: joins data, trainer, tracker and checkpoints."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
