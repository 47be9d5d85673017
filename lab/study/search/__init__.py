"""Searches: samplers and pruners, a search's budget, and what chooses a trial's parameters when it is claimed."""
