"""A store of several servers under real readers, in the short form that each test run takes."""

from collections.abc import Sequence

import pytest

from tests.faults.groups import CLUSTER_KINDS, CUT_OFF, SENTINEL_KINDS, faults
from tests.faults.kinds import Kind
from tests.parting import NEEDS, can_part
from tests.valkeys import Cluster, Group, Trio

SEED = 1
STREAMS = 24
RATE = 50
parting = pytest.mark.skipif(not can_part(), reason=NEEDS)


def named(kinds: Sequence[Kind], *names: str) -> list[Kind]:
    found = [kind for kind in kinds if kind.name.partition(": ")[2] in names]
    assert len(found) == len(names)
    return found


@pytest.mark.rule("P1.1", "P4.13")
@pytest.mark.faults
@pytest.mark.parametrize(
    ("group", "kinds"),
    [
        (Cluster, named(CLUSTER_KINDS, "primary kill -9", "8 partitions moved")),
        pytest.param(Cluster, [CUT_OFF], marks=parting),
        (Trio, named(SENTINEL_KINDS, "primary kill -9")),
    ],
)
async def test_no_failover_costs_a_reader_a_character(
    group: type[Group], kinds: list[Kind]
) -> None:
    """P1, P3, P4, P17: what a failover lost with nobody to give it back is told."""
    with group() as servers:
        for this in await faults(servers, kinds, STREAMS, SEED, RATE):
            assert this.violations == []
            assert this.injected.total() == 1
