"""Plug-ins: modules of users that add nets, data, losses and more, each under a name that a config can use.

A plug-in registers what it defines::

    @lab.architecture
    def mlp(shape, classes, *, alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1) -> nn.Module: ...

Keyword-only parameters become settings: `alpha` can be given, varied and searched like any other, for the trials that
use the net. What a module defines can also be named by its path, without registering: `architecture: my_nets:Mlp`.

A plug-in is loaded by `use`, before the config that names it is read. A study keeps the text of a plug-in that is a
single file, and the version of one that is installed, so that every worker trains with the same code (`records`,
`installed`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
