"""Trained models put to use: what they say about pictures, and files that other programs load."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
