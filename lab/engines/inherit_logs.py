"""Imported first in the process that workers are forked from, so that warnings of its other imports are logged."""

from __future__ import annotations

from lab.logs import inherit

__all__: list[str] = []

inherit()
