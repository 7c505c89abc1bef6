"""``lore up``: runs everything on this machine and supervises it until Ctrl-C."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress

from rich.console import Console
from rich.status import Status

from lore.cli import fleet as fleets
from lore.cli.child import STARTING, Child, Died
from lore.cli.fleet import LocalFleet, Options
from lore.cli.place import Place
from lore.protocol.commands import Release
from lore.protocol.lifecycle import OWNED
from lore.settings import CommonSettings, check_names, load
from lore.store import StoreUnavailable, opened
from lore.sweep import MOST, Finding, Policy, sweep
from lore_client.place import Problem, called_as

STOP_GRACE_S = 25.0
RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
SWEEP_MAX_S = 60.0
LOOK_EVERY_S = 1.0
STEADY_S = 60.0
"""A process that ran for so many seconds starts again with the shortest pause."""


def run(options: Options, *, stall_s: float) -> None:
    """Run until a signal stops it. Raises Problem when something cannot start.

    ``stall_s``: reap windows that stand for so many seconds (P16); 0 for never.
    """
    check_names()
    place = Place(options.data_dir)
    place.take()
    asyncio.run(_Up(options, fleets.plan(options, place), stall_s).run())


class _Up:
    def __init__(self, options: Options, fleet: LocalFleet, stall_s: float) -> None:
        self._options = options
        self._stall_s = stall_s
        self._fleet = fleet
        self._console = Console(highlight=False, soft_wrap=True)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        try:
            if await self._unless_stopped(self._start()):
                self._say_ready()
                await self._unless_stopped(self._keep_all())
        finally:
            await fleets.stop(self._fleet, grace_s=STOP_GRACE_S)
            self._fleet.place.leave()

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for child in self._fleet.children:
                child.kill()
            return
        self._stop.set()
        self._console.print("Stopping (Ctrl-C again to stop at once)")

    async def _unless_stopped(self, work: Coroutine[None, None, None]) -> bool:
        """Return whether the work was finished before somebody asked to stop."""
        working = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if self._stop.is_set():
            working.cancel()
            with suppress(asyncio.CancelledError, Problem):
                await working
            return False
        await working
        return True

    async def _start(self) -> None:
        fleet = self._fleet
        with self._console.status("Starting the store") as status:
            if not self._console.is_terminal:
                self._console.print("Starting the store")
            for store in fleet.stores:
                await self._first_start(store)
            if not fleet.stores:
                doing = await fleets.store_doing(fleet.valkey_url)
                if doing is not None:
                    raise Problem(doing)
            starting = [
                *(asyncio.create_task(self._first_start(child)) for child in fleet.generators),
                asyncio.create_task(self._start_edges()),
            ]
            try:
                await self._show_progress(starting, status)
            finally:
                for task in starting:
                    task.cancel()

    async def _start_edges(self) -> None:
        """Other commands find the edges while the generators still load, or wait for an engine."""
        await asyncio.gather(*map(self._first_start, self._fleet.edges))
        self._fleet.announce()

    async def _first_start(self, child: Child) -> None:
        await child.start()
        try:
            await child.until_ready()
        except Died as death:
            raise Problem(f"{child.name} could not start: {death}") from None

    async def _show_progress(self, starting: list[asyncio.Task[None]], status: Status) -> None:
        """Show progress until all have started. Raises Problem when one cannot start."""
        began, said = time.monotonic(), ""
        while not all(task.done() for task in starting):
            doing = self._fleet.generators[0].doing
            if doing == "loading the model":
                verb = "asking" if self._options.engine_urls else "loading"
                doing = f"{verb} {self._options.model_name}"
            line = f"{doing[:1].upper()}{doing[1:]}"
            status.update(f"{line} ({time.monotonic() - began:.0f} s)")
            if not self._console.is_terminal and line not in ("Starting", said):
                self._console.print(line)
                said = line
            done, _ = await asyncio.wait(starting, timeout=0.2, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()

    async def _keep_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for child in self._fleet.children:
                tasks.create_task(self._keep(child))
            for generator in self._fleet.generators:
                tasks.create_task(self._tell_readiness(generator))
            if self._stall_s:
                tasks.create_task(self._sweep())

    async def _keep(self, child: Child) -> None:
        """Start it again whenever it ends; with growing pauses when it ends at once."""
        pause_s = RESTART_FIRST_S
        while True:
            began = time.monotonic()
            await child.until_dead()
            if time.monotonic() - began > STEADY_S:
                pause_s = RESTART_FIRST_S
            self._say(f"{child.name} ended ({child.last_words()}); again in {pause_s:g} s")
            with suppress(StoreUnavailable):  # without the store, the leases decide
                await _hand_back(self._fleet.valkey_url, child.identity)
            await asyncio.sleep(pause_s)  # a process that ends at once must not use up the CPU
            pause_s = min(2 * pause_s, RESTART_MAX_S)
            await child.start()
            with suppress(Died):
                await child.until_ready()
                self._say(f"{child.name} is back")

    async def _tell_readiness(self, generator: Child) -> None:
        """Say why a generator that runs takes no requests, such as an engine that is away."""
        said = seen = None
        while True:
            await asyncio.sleep(LOOK_EVERY_S)  # another process: no event to await
            before, seen = seen, await generator.probe()
            # What lasts for a moment only is not worth a line.
            if seen != before or seen in (STARTING, said):
                continue
            self._say(f"{generator.name}: {seen or 'ready again'}")
            said = seen

    async def _sweep(self) -> None:
        """Sweep now and then. A store that is away is swept the next time."""
        while True:
            await asyncio.sleep(min(SWEEP_MAX_S, self._stall_s / 2))  # lateness is no event
            with suppress(StoreUnavailable):
                for request_id in await _reap_stalled(self._fleet.valkey_url, self._stall_s):
                    self._say(f"reaped {request_id}: nobody reads it")

    def _say(self, line: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')} {line}", markup=False)

    def _say_ready(self) -> None:
        fleet, (lore, where) = self._fleet, called_as("lore", self._options.data_dir)
        key = "LORE_API_KEY=… " if fleet.wants_keys else ""
        lines = [
            f"Lore is ready, with {self._options.model_name}.",
            "",
            f"  Page    {fleet.urls[0]}",
            f"  Edges   {'  '.join(fleet.urls)}",
            f'  Ask     {key}{lore} ask "What is a closure?"{where}',
            f"  Watch   {lore} status --watch{where}",
            f"  Logs    {fleet.place.logs}",
            "",
            "Ctrl-C stops everything.",
        ]
        self._console.print("\n".join(lines), markup=False)


async def _hand_back(url: str, owner: str) -> None:
    """Release the requests of a generator that has ended, so that nobody waits for their leases and
    their readers are told (P15). Raises StoreUnavailable.
    """
    if not owner:
        return
    async with opened(url) as store:
        for view in await store.live(limit=MOST):
            if view.owner == owner and view.status in OWNED:
                # It counts as a try, as a lapsed lease does: the request may be what ended the
                # generator.
                await store.do(Release(view.request_id, owner, view.epoch, "failed"))


async def _reap_stalled(url: str, stall_s: float) -> list[str]:
    """Reap stalled requests and return their ids. Raises StoreUnavailable."""
    async with opened(url) as store:
        found = await sweep(
            store,
            Policy(stall_s=stall_s),
            now_ms=time.time_ns() // 1_000_000,
            retention_ms=round(load(CommonSettings).retention_s * 1000),
        )
    return [action.view.request_id for action in found if action.finding is Finding.STALLED]
