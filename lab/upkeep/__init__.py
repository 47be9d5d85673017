"""Maintenance of the stores: what is wrong with them (`lab doctor`), and what can be deleted (`lab gc`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
