"""What a study found, read back from its runs; nothing here writes to a study."""

from lab.report.leaderboard import leaderboard, publish_leaderboard
from lab.report.render import render

__all__ = ["leaderboard", "publish_leaderboard", "render"]
