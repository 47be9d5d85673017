from __future__ import annotations

from lab.engines.setbacks import Setbacks
from lab.errors import LabError

BAD = LabError("node7: another version of lab\nand more")


def test_on_this_machine_a_failure_is_everybodys() -> None:
    assert not Setbacks().add(BAD, others_train=True)


def test_one_bad_node_is_borne_and_named_and_nothing_starts_for_a_while() -> None:
    setbacks = Setbacks(workers=8)
    assert not setbacks.pauses
    assert setbacks.notes == []
    assert setbacks.add(BAD, others_train=False)
    assert setbacks.pauses
    assert setbacks.notes == ["node7: another version of lab"]
    setbacks.clear()
    assert not setbacks.pauses
    assert setbacks.notes  # it is shown for a while: the node is still there


def test_a_cluster_on_which_nobody_can_train_ends_the_sweep() -> None:
    setbacks = Setbacks(workers=4)
    borne = [setbacks.add(BAD, others_train=False) for _ in range(4)]
    assert borne == [True, True, True, False]
    assert setbacks.add(BAD, others_train=True)


def test_with_one_worker_the_third_failure_in_a_row_ends_it() -> None:
    setbacks = Setbacks(workers=1)
    assert [setbacks.add(BAD, others_train=False) for _ in range(3)] == [True, True, False]
    setbacks.clear()
    assert setbacks.add(BAD, others_train=False)


def test_what_may_be_so_on_every_node_ends_it_unless_others_train() -> None:
    refused = LabError("Slurm refuses the job: invalid account")
    setbacks = Setbacks(workers=8)
    assert not setbacks.add(refused, others_train=False, is_nodes=False)
    assert setbacks.notes == []  # it is the sweep's error now
    assert setbacks.add(refused, others_train=True, is_nodes=False)
    assert setbacks.notes == [str(refused)]
