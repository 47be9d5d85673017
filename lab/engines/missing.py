"""Which runs of a study were deleted, asked of a tracking store that may not answer."""

from __future__ import annotations

from collections.abc import Collection

from lab import tracking
from lab.errors import TrackingError

__all__ = ["MissingRuns"]


class MissingRuns:
    """Tells which runs no longer exist; a store that does not answer is not asked again.

    Args:
        tracking_uri: of the tracking store.

    Attributes:
        trouble: why the store did not answer; empty if it did.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.trouble = ""
        self._uri = tracking_uri

    def __call__(self, run_ids: Collection[str]) -> Collection[str]:
        """Return those of `run_ids` that no longer exist, none of them where that cannot be known."""
        if self.trouble:
            return ()
        try:
            return tracking.missing_runs(self._uri, run_ids)
        except TrackingError as error:
            self.trouble = str(error)
            return ()
