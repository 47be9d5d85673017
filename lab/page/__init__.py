"""The report of a study as one HTML file that opens offline. The only package that imports plotly and jinja2."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
