"""A look at a study database that creates, migrates and changes nothing, and never waits for long."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NamedTuple

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from lab.errors import StudyError
from lab.places import without_queried_password
from lab.study.addresses import display_url, parse_address
from lab.study.faults import reason, translated
from lab.study.liveness import GRACE_SECONDS, HEARTBEAT_SECONDS
from lab.study.record import TrialRecord
from lab.study.storage import clock_ahead
from lab.study.studies import names_in

__all__ = ["Schema", "Stale", "StorageProbe"]

_PATIENCE = 8  # seconds for a connection, and for an answer


class Schema(NamedTuple):
    """The version of Optuna's tables that a database has, None if it has none, and the version that it should have."""

    found: str | None
    expected: str
    known: bool = True  # whether this Optuna can upgrade it; one that it does not know is newer


class Stale(NamedTuple):
    """By study, the labels of its trials that are running without a worker; and why studies cannot be read."""

    labels: dict[str, list[str]]
    broken: dict[str, str]


class StorageProbe:
    """Looks at the database at `url`, which must exist if it is a file.

    Database failures raise `StudyError`.
    """

    def __init__(self, url: str) -> None:
        self.url = display_url(url)
        with self._telling():
            self._url = parse_address(url)
            self._engine = sa.create_engine(self._url, poolclass=sa.NullPool, connect_args=self._patience())

    @property
    def upgradable_url(self) -> str:
        """The address as Optuna's own commands take it, without its password."""
        url = self._url
        bare = sa.URL.create(url.drivername, url.username, None, url.host, url.port, url.database, url.query)
        return without_queried_password(bare.render_as_string())

    def schema(self) -> Schema:
        """Return the version of the tables; this signs in and reads them."""
        with self._telling():
            inspector = sa.inspect(self._engine)
            tables = set(inspector.get_table_names())
            if "version_info" not in tables or not self._rows("SELECT version_info_id FROM version_info"):
                if tables:
                    raise StudyError(f"the database {self.url} has tables, but none of them is Optuna's")
                return Schema(None, "")
            self._rows("SELECT study_id FROM studies LIMIT 1")
            head = self._storage.get_head_version()
            found = self._storage.get_current_version()
            return Schema(found, head, found in self._storage.get_all_versions())

    def may_write(self) -> bool:
        """Return whether the role that signs in may add trials."""
        if self._url.get_backend_name() != "postgresql":
            return True
        with self._telling():
            return bool(self._rows("SELECT has_table_privilege('trials', 'INSERT')")[0][0])

    def clock(self) -> float | None:
        """Return how many seconds this machine's clock is ahead of the database's; None if that has no clock."""
        with self._telling():
            return clock_ahead(self._engine)

    def stale(self) -> Stale:
        """Return the labels of running trials whose worker is dead, in lab's studies."""
        found = Stale({}, {})
        with self._telling():
            names = names_in(self._engine)
        for name, study_id in names.own.items():
            try:
                labels = self._stale(study_id)
            except Exception as error:  # noqa: BLE001  # whatever is wrong with one study, the others are checked
                found.broken[name] = reason(error)
                continue
            if labels:
                found.labels[name] = labels
        return found

    def _stale(self, study_id: int) -> list[str]:
        silent = set(self._storage._get_stale_trial_ids(study_id))
        # all trials, not only running ones, to find out whether the study can be read
        trials = self._storage.get_all_trials(study_id, deepcopy=False)
        identity = self._storage.get_trial_id_from_study_id_trial_number
        self._storage.get_study_user_attrs(study_id)
        running = [TrialRecord(trial) for trial in trials if trial.state is TrialState.RUNNING]
        return [
            record.label
            for record in running
            if record.is_own and (record.is_dead or identity(study_id, record.number) in silent)
        ]

    @cached_property
    def _storage(self) -> RDBStorage:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", optuna.exceptions.ExperimentalWarning
            )  # heartbeats, since Optuna 2.9
            return RDBStorage(
                self._url.render_as_string(hide_password=False),
                engine_kwargs={"poolclass": sa.NullPool, "connect_args": self._patience()},
                skip_compatibility_check=True,
                skip_table_creation=True,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
            )

    def _patience(self) -> dict[str, Any]:
        sqlite = self._url.get_backend_name() == "sqlite"
        return {"timeout": _PATIENCE} if sqlite else {"connect_timeout": _PATIENCE}

    def _rows(self, query: str) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(sa.text(query)))

    def _telling(self) -> AbstractContextManager[None]:
        return translated(self.url, also=(ImportError, OSError))
