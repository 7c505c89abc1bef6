"""``python -m tests.faults.moves``: Valkey is replaced under readers, as docs/operations.md says.

By another server, which follows it and takes over, while the name that the services know leads to
the new one; and with ``--newer PROGRAM`` by that program, which reads what the older one wrote.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys

import uvloop

from lore.logs import configure_logging
from lore.store import ValkeyStore
from tests.faults.fleet import Fleet, Valkey
from tests.faults.kinds import Kind
from tests.faults.readers import Question
from tests.faults.report import table, tell
from tests.faults.run import run_round

LOOK_S = 0.05
WAIT_S = 60.0


async def says(valkey: Valkey, **wanted: str) -> None:
    """Wait until ``INFO replication`` says so; a server tells nobody by itself."""
    async with asyncio.timeout(WAIT_S):
        while not wanted.items() <= (await valkey.admin.info("replication")).items():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)


async def hand_over(fleet: Fleet, _: random.Random) -> None:
    """No write is lost: the old one takes none until the new one has all."""
    folder = fleet.folder / "another"
    folder.mkdir()
    old, new = fleet.valkey, Valkey(folder)
    await new.restart()
    await new.admin.execute_command("REPLICAOF", "127.0.0.1", old.port)
    await says(new, master_link_status="up")
    await old.admin.execute_command("FAILOVER")
    await says(new, role="master")
    for link in [*fleet.links.generator, *fleet.links.edge]:
        link.target = new.port
    await old.die(signal.SIGTERM)
    await old.admin.aclose()
    await fleet.store.close()
    fleet.valkey, fleet.store = new, ValkeyStore(new.url)
    await fleet.store.connect()


def by(program: str) -> Kind:
    async def replace(fleet: Fleet, _: random.Random) -> None:
        await fleet.valkey.die(signal.SIGTERM)
        fleet.valkey.run_by(program)
        await fleet.valkey.restart()

    return Kind("a newer Valkey on the same files", replace, times=1, of_one_server=True)


async def rounds(streams: int, newer: str, rng: random.Random) -> bool:
    """False when something was violated."""
    kinds = [Kind("another Valkey takes over", hand_over, times=1, of_one_server=True)]
    kinds += [by(newer)] if newer else []
    done = []
    async with Fleet() as fleet:
        for kind in kinds:
            questions = [Question.draw(rng, number) for number in range(streams)]
            this = await run_round(fleet, [kind], questions, rng)
            done.append(this)
            tell(this, fleet.folder)
        about = await fleet.valkey.admin.info("server")
        violations = sum(len(this.violations) for this in done)
        if not violations:
            fleet.forget_logs()
    print(table(done), f"Valkey {about['valkey_version']}; violations: {violations}", sep="\n\n")
    return not violations


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.moves", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay the choices; without it, new ones")
    parser.add_argument("--streams", type=int, default=40, help="in each round")
    parser.add_argument("--newer", default="", help="a newer valkey-server")
    options = parser.parse_args()
    if options.newer and shutil.which(options.newer) is None:
        sys.exit(f"no program {options.newer}")
    configure_logging("faults", "error")
    seed = random.getrandbits(32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    sys.exit(not uvloop.run(rounds(options.streams, options.newer, rng)))


if __name__ == "__main__":
    main()
