"""Workers in actors of a real Ray, whose nodes are all on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.engines.ray import RayLauncher
from tests.integration.engines.test_launchers import (  # noqa: F401  # the contract, run here over actors
    test_a_stopped_worker_checkpoints_and_returns_its_trial,
    test_a_worker_that_cannot_go_on_says_so_and_exits_in_order,
    test_a_worker_that_raises_says_why,
    test_all_are_stopped,
    test_events_come_in_order_and_the_exit_last,
    test_every_worker_has_a_number_of_its_own,
    test_nobody_lives_after_a_kill_and_nothing_more_is_heard,
    test_one_worker_is_stopped_and_another_goes_on,
    test_there_is_something_to_run_on,
)

pytestmark = pytest.mark.ray

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 80_000_000}
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def launcher(cluster: Any) -> Iterator[RayLauncher]:
    launcher = RayLauncher(cluster.address, 2)
    yield launcher
    launcher.kill()
