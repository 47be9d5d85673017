"""All checks of the stores and of this machine, one after another."""

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
from lab.upkeep.server_checks import check_server
from lab.upkeep.study_checks import check_studies
from lab.upkeep.tracking_checks import check_journals, check_tracking
from lab.upkeep.versions import check_versions

__all__ = ["examine"]

_STORE_SECONDS = 20.0
_MACHINE_SECONDS = 60.0  # torch takes seconds to import, and many more on a busy machine
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")


class _Check(NamedTuple):
    name: str
    find: Callable[[], Iterator[Finding]]
    seconds: float
    mend: str  # what to do if it fails or does not answer in time


def examine(stores: Stores) -> Iterator[Finding]:
    """Run every check of `stores` and of this machine, and yield the findings as they come; changes nothing.

    A check that raises yields that as its finding, and the others still run. Each store gets at most 20 seconds.
    """
    addresses = (stores.storage, stores.tracking_uri)
    others = [secret for name in _SECRETS if (secret := os.environ.get(name))]
    for check in _checks(stores):
        for finding in limited(*check):
            yield replace(
                finding,
                found=without_secrets(finding.found, addresses, others),
                mend=without_secrets(finding.mend, addresses, others),
            )


def _checks(stores: Stores) -> list[_Check]:
    unreachable = "Check that the server is running and its port open from here, or name another with {}."
    server = stores.server_file
    return [
        _Check("versions", check_versions, _MACHINE_SECONDS, "pip check"),
        *(
            []
            if server is None
            else [_Check("server", lambda: check_server(server), _STORE_SECONDS, "lab serve")]
        ),
        _Check(
            "study database",
            lambda: check_studies(stores.storage),
            _STORE_SECONDS,
            unreachable.format("--storage (LAB_STORAGE)"),
        ),
        _Check(
            "tracking store",
            lambda: check_tracking(stores.tracking_uri, stores.artifact_dir),
            _STORE_SECONDS,
            unreachable.format("--tracking-uri (MLFLOW_TRACKING_URI)"),
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
            f"Delete {cache_dir()}, which is rebuilt when needed, or move it with LAB_CACHE_DIR.",
        ),
        "temporary files": (
            Path(tempfile.gettempdir()),
            "Free space there, or name another folder in TMPDIR.",
        ),
    }
    if not stores.tracking_uri.startswith("http"):
        places["artifacts"] = (stores.artifact_dir, "lab gc")
    yield from check_disks(
        {what: folder for what, (folder, _) in places.items()},
        {what: mend for what, (_, mend) in places.items()},
    )
