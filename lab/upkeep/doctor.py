"""Is everything well? Every check of the stores and of this machine, one after another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lab.data.cache import cache_dir
from lab.engines import Stores
from lab.upkeep.finding import Finding, without_secrets
from lab.upkeep.limited import limited
from lab.upkeep.machine_checks import check_disks, check_gpu
from lab.upkeep.study_checks import check_studies
from lab.upkeep.tracking_checks import check_journals, check_tracking
from lab.upkeep.versions import check_versions

__all__ = ["examine"]

_STORE_SECONDS = 20.0
_MACHINE_SECONDS = 60.0  # torch alone takes seconds to import, and many more on a busy machine
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")


class _Check(NamedTuple):
    name: str
    find: Callable[[], Iterator[Finding]]
    seconds: float
    mend: str  # where there is no answer in time


def examine(stores: Stores) -> Iterator[Finding]:
    """Yield what every check of `stores` and of this machine finds, as it finds it; changes nothing.

    No check ends another: what one raises is its finding. Neither store is waited for longer than 20 seconds.
    """
    _import()
    addresses = (stores.storage, stores.tracking_uri)
    others = [secret for name in _SECRETS if (secret := os.environ.get(name))]
    for check in _checks(stores):
        for finding in limited(*check):
            yield replace(
                finding,
                found=without_secrets(finding.found, addresses, others),
                mend=without_secrets(finding.mend, addresses, others),
            )


def _import() -> None:
    """Import what takes seconds before a check's time runs."""
    import lab.tracking.health  # noqa: F401


def _checks(stores: Stores) -> list[_Check]:
    away = "Is the server up, and its port open from here? Name another with {} where not."
    return [
        _Check("versions", check_versions, _MACHINE_SECONDS, "pip check"),
        _Check(
            "studies' database",
            lambda: check_studies(stores.storage),
            _STORE_SECONDS,
            away.format("--storage (LAB_STORAGE)"),
        ),
        _Check(
            "tracking store",
            lambda: check_tracking(stores.tracking_uri, stores.artifact_dir),
            _STORE_SECONDS,
            away.format("--tracking-uri (MLFLOW_TRACKING_URI)"),
        ),
        _Check(
            "undelivered journals",
            lambda: check_journals(stores.journal_dir, stores.tracking_uri),
            _MACHINE_SECONDS,
            "lab sync",
        ),
        _Check("disk", lambda: _disks(stores), _MACHINE_SECONDS, "df -h"),
        _Check("GPU", check_gpu, _MACHINE_SECONDS, "nvidia-smi"),
    ]


def _disks(stores: Stores) -> Iterator[Finding]:
    places = {
        "journal": (stores.journal_dir, "lab sync"),
        "checkpoints": (stores.checkpoint_dir, "lab gc"),
        "data cache": (
            cache_dir(),
            f"Delete {cache_dir()}; it is made again, or move it with LAB_CACHE_DIR.",
        ),
        "temporary files": (
            Path(tempfile.gettempdir()),
            "Free room there, or name another folder in TMPDIR.",
        ),
    }
    if not stores.tracking_uri.startswith("http"):
        places["artifacts"] = (stores.artifact_dir, "lab gc")
    yield from check_disks(
        {what: folder for what, (folder, _) in places.items()},
        {what: mend for what, (_, mend) in places.items()},
    )
