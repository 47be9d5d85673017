"""Imported first by the process that workers are forked from: what its other imports warn of is logged too."""

from __future__ import annotations

from lab.logs import inherit

__all__: list[str] = []

inherit()
