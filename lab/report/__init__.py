"""Leaderboards, effects and comparisons, read from a study's runs; only `publish` writes, to the study's own run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
