"""Looks after the stores: is everything well, and what may go."""

from lab.upkeep.doctor import examine
from lab.upkeep.finding import Finding, Verdict
from lab.upkeep.garbage import Garbage, find_garbage, remove

__all__ = ["Finding", "Garbage", "Verdict", "examine", "find_garbage", "remove"]
