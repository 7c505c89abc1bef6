"""What floods cost an edge and its readers: ``python -m tests.attack``."""

import argparse
import asyncio

from tests.attack.floods import FLOODS, MIB, send
from tests.attack.watch import watched
from tests.faults.fleet import Fleet

READERS = 15
SIZE = 32 * MIB
UNDISTURBED_S = 20.0


async def main() -> None:
    async with (
        Fleet(generators=1, edges=1, generator={"synthetic_rate": 20}) as fleet,
        watched(fleet, READERS) as watch,
    ):
        await asyncio.sleep(UNDISTURBED_S)
        undisturbed_s, first_mib = watch.longest_s, watch.first_mib
        print(f"undisturbed: longest pause {undisturbed_s:.3f} s, +{watch.grown_mib:.1f} MiB")
        print(
            "each flood: the answer's status (- where the flood makes calls, and reads no answer),"
        )
        print(
            "the readers' longest pause (as a part of the undisturbed one), how the edge's RSS grew"
        )
        for flood in FLOODS:
            watch.reset()
            status = await send(flood, watch.edge.serving_port, SIZE)
            print(
                f"{flood.name:32} {status or '-':>3} longest pause {watch.longest_s:.3f} s "
                f"({watch.longest_s / undisturbed_s:.2f}), +{watch.grown_mib:.1f} MiB, "
                f"+{watch.most_mib - first_mib:.1f} MiB since the start"
            )
    fleet.forget_logs()


argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__).parse_args()
asyncio.run(main())
