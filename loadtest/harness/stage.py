"""The parts as processes of their own, without persistence, whose CPU time can be read.

A process's CPU clock is the kernel's, in ns (clock_getcpuclockid(3)); a thread's is taken from
/proc/<pid>/task/<tid>/stat, in ticks of 10 ms.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import psutil
import valkey
from valkey.exceptions import ValkeyError

from loadtest.harness.record import SERVER
from lore.cli.child import Child
from lore.cli.fleet import free_ports, readiness

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Part(Child):
    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_s(self) -> float:
        """Of all its threads."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def side_threads_s(self) -> float:
        """Of all threads but the first."""
        used = 0.0
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            if thread.name != str(self.pid):
                fields = (thread / "stat").read_text().rpartition(")")[2].split()
                used += (int(fields[11]) + int(fields[12])) * TICK_S
        return used

    def loop_s(self) -> float:
        """Of the first thread, which is the event loop's."""
        return self.cpu_s() - self.side_threads_s()

    def rss_kib(self) -> float:
        return psutil.Process(self.pid).memory_info().rss / 1024


class Stage:
    """Starts parts; they end with the context."""

    def __init__(self, *, counted: bool = False) -> None:
        """``counted``: services count their calls (``counted.py``)."""
        self._counted = counted
        self.folder = Path(tempfile.mkdtemp(prefix="lore-bench-"))
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        (self.valkey_port,) = free_ports(1)
        self.valkey_url = f"valkey://127.0.0.1:{self.valkey_port}"
        argv = [str(SERVER), "--port", str(self.valkey_port), "--bind", "127.0.0.1"]
        argv += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.client: Any = valkey.Valkey(port=self.valkey_port, decode_responses=True)
        self._stack.callback(self.client.close)
        self.valkey = await self._start("valkey", argv, {}, self._pings)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def generator(self, **settings: Any) -> Part:
        """It keeps when it appended what: see ``timed_generator``."""
        settings = {"engine": "synthetic", "slots": 16_384, "max_requests": 16_384} | settings
        module = "lore_generator.main" if self._counted else "loadtest.harness.timed_generator"
        return await self._service("generator", module, settings)

    async def edge(self, **settings: Any) -> tuple[Part, int]:
        """The part and its port."""
        (port,) = free_ports(1)
        # One client asks for everything here: shares and a bound of the queue are not the point.
        open_house = {"auth": "off", "queue_limit": 1_000_000, "fair_quantum_s": 0}
        module = "lore_edge.main" if self._counted else "lore_edge"
        part = await self._service("edge", module, open_house | {"port": port} | settings)
        return part, port

    async def script(self, module: str, probe_port: int | None, *args: object) -> Part:
        """Another program of the harness; ready once its port takes connections."""
        argv = [sys.executable, "-m", module, *map(str, args)]
        return await self._start(module, argv, {}, _listens(probe_port))

    def times_file(self) -> Path:
        return self.folder / "times"

    def calls(self) -> dict[str, int]:
        """How often the server has executed each command."""
        stats: dict[str, Any] = self.client.info("commandstats")
        return {name.removeprefix("cmdstat_"): used["calls"] for name, used in stats.items()}

    async def _service(self, name: str, module: str, settings: dict[str, Any]) -> Part:
        (health,) = free_ports(1)
        chosen = {"valkey_url": self.valkey_url, "health_port": health, "log_level": "warning"}
        env = {f"LORE_{key.upper()}": str(value) for key, value in (chosen | settings).items()}
        env |= {"BENCH_TIMES": str(self.times_file()), "BENCH_CALLS": str(self.folder)}
        counted = ("loadtest.harness.counted",) if self._counted else ()
        argv = [sys.executable, "-m", *counted, module]
        return await self._start(f"{name}-{health}", argv, env, readiness(health))

    async def _start(self, name: str, argv: list[str], env: dict[str, str], probe: Any) -> Part:
        part = Part(name, argv, env, self.folder / f"{name}.log", probe)
        await part.start()
        self._stack.push_async_callback(part.stop, 5.0)
        await part.until_ready()
        return part

    async def _pings(self) -> str | None:
        try:
            self.client.ping()
        except (OSError, ValkeyError) as error:
            return str(error)
        return None


def _listens(port: int | None) -> Callable[[], Any]:
    async def probe() -> str | None:
        if port is None:
            return None
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return "starting"
        writer.close()
        return None

    return probe
