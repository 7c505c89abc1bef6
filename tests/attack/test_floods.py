"""Floods from strangers: an edge keeps its memory, and its readers their answers."""

from tests.attack.floods import FLOODS, MIB, send
from tests.attack.watch import watched
from tests.faults.fleet import Fleet

GROWTH_MIB = 4.0
READERS = 15
SIZE = 32 * MIB


async def test_no_flood_makes_an_edge_grow_or_stops_its_readers():
    """Before, 48 MiB of fields took an edge to 1.2 GiB and stopped all others for 6 s."""
    async with (
        Fleet(generators=1, edges=1, generator={"synthetic_rate": 20}) as fleet,
        watched(fleet, READERS) as watch,
    ):
        for flood in FLOODS:
            watch.reset()
            answered = await send(flood, watch.edge.serving_port, SIZE)
            assert answered in (flood.status, flood.or_status), flood.name
            assert watch.grown_mib < GROWTH_MIB, flood.name
            await watch.all_go_on()
    fleet.forget_logs()
