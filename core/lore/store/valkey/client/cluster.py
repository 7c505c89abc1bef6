"""The servers of the partitions in a cluster.

Lore has two connections to each primary, as to a single server. The map from partitions to
primaries is read again whenever something shows that it may be wrong: a redirected call, a channel
that a server no longer has, a lost connection. One task at a time reads it, with growing pauses,
until every partition has a connected server and every channel is subscribed there.

A redirected call was not executed. It is sent to the right server, with that server's replication
id (P4.11). While a partition moves between servers, it may be at neither: the call is repeated for
a while, and then fails as if the server were away.
"""

import asyncio
import contextlib
import random
from collections.abc import Generator
from typing import Any

import structlog
from valkey.crc import key_slot
from valkey.exceptions import ResponseError

from lore.store.keys import PARTITIONS, prefix
from lore.store.types import StoreUnavailable
from lore.store.valkey.client.connection import Link, forget
from lore.store.valkey.client.functions import Functions
from lore.store.valkey.client.location import Address, Location
from lore.store.valkey.client.replies import (
    Asked,
    FunctionFailed,
    FunctionMissing,
    Moved,
    NotWhole,
    Redirected,
)
from lore.store.valkey.client.subscriptions import Subscriber, Subscriptions

log = structlog.get_logger()

MAP_S = 1.0
"""How many seconds one node may take to answer with the map."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 1.0
CONNECT_S = 1.0
"""How many seconds a call waits for a connection to the server that it was sent to."""
PATIENCE_S = 5.0
"""How many seconds a call follows redirections."""

SLOTS = {key_slot(prefix(partition).encode()): partition for partition in range(PARTITIONS)}


class Node:
    """A server of the cluster, with its two connections."""

    def __init__(self, cluster: "Cluster", address: Address) -> None:
        self.address = address
        endpoint = cluster.location.endpoint_at(address)
        self.functions = Functions(endpoint, elsewhere=cluster.follow, **cluster.limits)
        self.subscriber = Subscriber(endpoint, **cluster.limits)
        self.subscriber.subscriptions = cluster.subscriptions
        self.functions.on_trouble = self.subscriber.on_trouble = cluster.refresh_soon
        self.visitors = 0
        """Calls that were redirected here, although this node may have no partition."""

    @property
    def is_up(self) -> bool:
        return self.functions.is_up and self.subscriber.is_up

    def start(self) -> None:
        self.functions.start()
        self.subscriber.start()

    async def close(self) -> None:
        self.functions.on_trouble = self.subscriber.on_trouble = lambda: None
        await self.functions.close()
        await self.subscriber.close()


class Cluster:
    """A cluster's servers. ``functions`` has the connection for each partition's calls."""

    def __init__(self, location: Location, **limits: Any) -> None:
        self.location = location
        self.limits = limits
        nowhere = location.endpoint()
        self.functions = [Functions(nowhere, **limits)] * PARTITIONS
        self._subscribers = [Subscriber(nowhere, **limits)] * PARTITIONS
        self.subscriptions = Subscriptions(self._subscribers, lambda _: self.refresh_soon())
        self._nodes: dict[Address, Node] = {}
        self._owners: dict[int, Node] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_open = False
        self._is_stale = False
        self._refreshing: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect. Raises StoreUnavailable when no node answers with a map, or no server in it is
        there.
        """
        self._is_open = True
        try:
            self._apply(await self._map())
            nodes = set(self._owners.values())
            if not nodes:
                raise StoreUnavailable("the store's cluster has no primaries with partitions")
            links = [link for node in nodes for link in (node.functions, node.subscriber)]
            wait_s: float = self.limits["timeout_s"]
            await asyncio.gather(*(_until_up(link.came_up, wait_s) for link in links))
            if not any(node.is_up for node in nodes):
                problems = sorted({link.problem for link in links if link.problem})
                why = "; ".join(problems) or "none answers"
                raise StoreUnavailable(f"the store's primaries cannot be reached: {why}")
        except BaseException:
            await self.close()
            raise
        self.refresh_soon()

    async def close(self) -> None:
        self._is_open = False
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        nodes, self._nodes, self._owners = list(self._nodes.values()), {}, {}
        await asyncio.gather(*(node.close() for node in nodes), *self._closing)

    # calls

    async def follow(
        self, source: Functions, redirected: Redirected, command: tuple[str | int, ...]
    ) -> Any:
        """Execute a command that ``source`` has not executed. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        give_up_s, pause_s = loop.time() + PATIENCE_S, FIRST_PAUSE_S
        run_id, partition = source.run_id, _partition_of(command)
        self.refresh_soon()
        is_first = True
        while loop.time() < give_up_s:
            if not (is_first and isinstance(redirected, Moved)):
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, LAST_PAUSE_S)
            is_first = False
            if isinstance(redirected, Moved):
                node = self._node(_address(redirected.place, source.endpoint.address))
                target = node.functions
            else:
                node, target = None, self.functions[partition]
            try:
                with _visiting(node):
                    await _until_up(target.came_up, timeout_s=CONNECT_S)
                    command = tuple(target.run_id if part is run_id else part for part in command)
                    run_id = target.run_id
                    if isinstance(redirected, Asked):
                        target.call("ASKING").add_done_callback(forget)
                    try:
                        return await target.call(*command)
                    except FunctionFailed as error:
                        return await target.again(error, command)
            except Redirected as error:
                redirected = error
            except FunctionMissing:
                await target.load_once()
                redirected = NotWhole("its functions were loaded")
            source = target
        raise StoreUnavailable(f"no server of the store has partition {partition}: {redirected}")

    # the map

    def refresh_soon(self) -> None:
        self._is_stale = True
        if self._is_open and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        pause_s = FIRST_PAUSE_S
        while self._is_stale:
            self._is_stale = False
            try:
                self._apply(await self._map())
            except StoreUnavailable as error:
                log.warning("cluster map unknown", reason=str(error))
                self._is_stale = True
            except Exception:
                log.exception("cluster map failed")
                self._is_stale = True
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
            up = all(node.is_up for node in self._owners.values())
            self._is_stale |= not (up and self.subscriptions.is_placed)

    async def _map(self) -> dict[int, Address]:
        """The address of the server of each partition that has one, as one node sees it."""
        known = {*self.location.addresses, *self._nodes}
        problem = StoreUnavailable("the store's cluster has no node")
        order = {one: (not self._is_connected(one), random.random()) for one in known}
        for address in sorted(known, key=order.__getitem__):
            try:
                async with asyncio.timeout(MAP_S):
                    return _owners(await self._ask_map(address), address)
            except TimeoutError:
                problem = StoreUnavailable(f"the store at {address} does not describe its cluster")
            except ResponseError as error:
                problem = StoreUnavailable(
                    f"the store at {address} is not a node of a cluster: {error}"
                )
            except StoreUnavailable as error:
                problem = error
        raise problem

    async def _ask_map(self, address: Address) -> list[Any]:
        if self._is_connected(address):
            return await self._nodes[address].functions.call("CLUSTER", "SLOTS")
        link = Link(self.location.endpoint_at(address), **self.limits)
        await link.connect()
        try:
            return await link.call("CLUSTER", "SLOTS")
        finally:
            await link.close()

    def _is_connected(self, address: Address) -> bool:
        return address in self._nodes and self._nodes[address].functions.is_up

    def _apply(self, owners: dict[int, Address]) -> None:
        for partition, address in owners.items():
            node = self._owners[partition] = self._node(address)
            self.functions[partition] = node.functions
            self._subscribers[partition] = node.subscriber
        self.subscriptions.place()
        idle = set(self._nodes.values()) - set(self._owners.values())
        for node in idle:
            if not node.visitors:
                del self._nodes[node.address]
                closing = asyncio.create_task(node.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(self, address)
            node.start()
        return node


@contextlib.contextmanager
def _visiting(node: Node | None) -> Generator[None]:
    """Keep a node open during a call that was redirected to it: it may have no partition yet."""
    if node is None:
        yield
        return
    node.visitors += 1
    try:
        yield
    finally:
        node.visitors -= 1


async def _until_up(came_up: asyncio.Event, timeout_s: float) -> None:
    """Wait until it is up, or the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await came_up.wait()


def _address(place: str, near: Address) -> Address:
    """Parse ``host:port``. An empty host means that of the server which named the place."""
    host, _, port = place.rpartition(":")
    return Address(host.strip("[]") or near.host, int(port))


def _partition_of(command: tuple[str | int, ...]) -> int:
    key = command[3] if command[0] == "FCALL" else command[1]
    return SLOTS[key_slot(str(key).encode())]


def _owners(slots: list[Any], near: Address) -> dict[int, Address]:
    """Parse the reply of the node at ``near`` to CLUSTER SLOTS."""
    return {
        partition: Address(primary[0] or near.host, int(primary[1]))
        for first, last, primary, *_ in slots
        for slot, partition in SLOTS.items()
        if first <= slot <= last
    }
