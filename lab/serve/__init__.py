"""`lab serve`: PostgreSQL and MLflow for a group, in user space."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
