from __future__ import annotations

import socket

import pytest

from lab.engines import Stores
from lab.engines.reachable import check_reachable
from lab.errors import ConfigError

HERE = socket.gethostname()
MLFLOW = "http://login1:5000"
POSTGRES = "postgresql://lab@login1:5432/lab"


def test_stores_that_every_machine_reaches() -> None:
    check_reachable(Stores(storage=POSTGRES, tracking_uri=MLFLOW), "Slurm", ["n1", "n2"])


@pytest.mark.parametrize("stores", [Stores(), Stores(storage=POSTGRES), Stores(tracking_uri=MLFLOW)])
def test_a_file_is_no_store_of_a_cluster(stores: Stores) -> None:
    with pytest.raises(
        ConfigError, match=f"^Slurm: the .* one machine only. Start .*: `lab serve --host {HERE}`"
    ):
        check_reachable(stores, "Slurm")


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://lab:secret@127.0.0.1:5432/lab",
        "postgresql://lab@localhost/lab",
        "postgresql://lab@[::1]/lab",
        "postgresql:///lab?host=/tmp/socket",
    ],
)
def test_an_address_that_means_another_machine_there(storage: str) -> None:
    stores = Stores(storage=storage, tracking_uri=MLFLOW)
    with pytest.raises(
        ConfigError, match=r"nodes \(n1 and 1 more\) cannot reach. .* `lab serve --host "
    ) as caught:
        check_reachable(stores, "Slurm", ["n2", "n1", HERE])
    assert "secret" not in str(caught.value)
    check_reachable(stores, "Slurm", [HERE, f"{HERE}.cluster.edu"])
    check_reachable(stores, "Slurm")


def test_also_of_the_runs() -> None:
    stores = Stores(storage=POSTGRES, tracking_uri="http://127.0.0.1:5000")
    with pytest.raises(ConfigError, match=r"^Slurm: http://127.0.0.1:5000 is an address of this machine"):
        check_reachable(stores, "Slurm", ["n1"])
