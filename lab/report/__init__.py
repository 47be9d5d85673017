"""What a study found, read back from its runs; nothing here writes to a study."""

from lab.report.effects import effects
from lab.report.leaderboard import cells, leaderboard
from lab.report.markdown import results_document
from lab.report.publish import publish_leaderboard
from lab.report.render import render, render_effects
from lab.report.results import GridResults, grid_results
from lab.report.statistics import half_width, pareto_front, summaries

__all__ = [
    "GridResults",
    "cells",
    "effects",
    "grid_results",
    "half_width",
    "leaderboard",
    "pareto_front",
    "publish_leaderboard",
    "render",
    "render_effects",
    "results_document",
    "summaries",
]
