"""Valkey for state machines: called step by step, read whole, set back, and broken."""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import pytest

from lore.protocol.commands import Append
from lore.store import ValkeyStore
from lore.store.base import Answers, Message, News, Position, Step
from lore.store.keys import own_channel, partition_keys, partition_of
from lore.store.memory.state import Publication
from lore.store.valkey.client.library import CODE, OURS, Library
from lore.store.valkey.handlers import OwnHandler
from tests.store.backends import deployed, ids_in_one_partition

IDS = [*ids_in_one_partition(3), "elsewhere"]
PARTITIONS_USED = sorted({partition_of(request_id) for request_id in IDS})


@dataclass
class Tap:
    """Hears one channel."""

    into: list[Publication]
    channel: Any
    request_id: str

    def on_message(self, message: Message) -> None:
        self.into.append(Publication("n", self.request_id, message))

    def on_news(self, news: News) -> None:
        self.into.append(Publication("b", self.request_id, news))

    def on_wake(self, partition: int | None) -> None:
        assert partition is not None
        self.into.append(Publication("wake", "", partition))

    def on_reset(self) -> None:
        raise AssertionError("the subscription was lost")


@dataclass
class RealStore:
    """Valkey, called step by step from hypothesis, which knows no event loop."""

    store: ValkeyStore
    admin: Any
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    now_ms: int = 0
    heard: list[Publication] = field(default_factory=list)

    async def listen(self) -> None:
        for request_id in IDS:
            await self.store.follow(request_id, Tap(self.heard, "n", request_id))
            await self.store.subscribe(request_id, Tap(self.heard, "b", request_id))
        await self.store.on_wake(Tap(self.heard, "wake", ""))

    def set_present(self, owner: str, *, is_there: bool) -> None:
        """Whether the owner's own channels have a subscriber."""
        subscriptions = self.store._subscriptions

        async def change() -> None:
            for partition in PARTITIONS_USED:
                name = own_channel(partition, owner)
                channel = subscriptions._channels.get(name)
                if is_there and channel is None:
                    await subscriptions.subscribe(partition, name, OwnHandler())
                elif channel is not None and not is_there:
                    subscriptions.unsubscribe(name, channel.handlers[0])
                    await subscriptions._links[partition].call("PING")  # answered after it

        self.run(change())

    def call(self, command: Any) -> tuple[Any, list[Publication]]:
        (answer,), heard = self.together(command)
        return answer, heard

    def together(self, *commands: Any) -> tuple[list[Any], list[Publication]]:
        """All in one turn of the event loop."""

        async def call() -> Any:
            return await asyncio.gather(*map(self.store.do, commands))

        return self.told(call)

    def told(self, act: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[Any, list[Publication]]:
        """What it brings, and what was published meanwhile."""

        async def act_and_listen() -> Any:
            answer = await act()
            # All that the call has published lies before the answer to this on its connection.
            links = dict.fromkeys(self.store._subscriptions._links)
            await asyncio.gather(*(link.call("PING") for link in links))
            return answer

        answer = self.run(act_and_listen())
        heard, self.heard[:] = list(self.heard), []
        return answer, heard

    def step(self, *commands: Append) -> tuple[list[int | Position], list[Publication]]:
        """Appends in one turn of the event loop, as an owner makes them."""

        async def append() -> list[int | Position]:
            loop = asyncio.get_running_loop()
            told: dict[int, Any] = {number: loop.create_future() for number in range(len(commands))}
            for _, step in groupby(enumerate(commands), key=lambda one: one[1].owner):
                self.store.append(list(step), partial(_on_answers, told))
            return list(await asyncio.gather(*told.values()))

        return self.told(append)

    def kept(self) -> tuple[list[list[Any]], list[list[str]]]:
        """(view, body, log, log as read) per id; then q, lease and live per partition."""

        async def look() -> Any:
            store = self.store
            requests = (
                asyncio.gather(store.view(i), store.body(i), store.log(i), store.read(i, after=0))
                for i in IDS
            )
            places = (
                store._functions[partition].ask("ZRANGE", key, 0, -1, "WITHSCORES")
                for partition in PARTITIONS_USED
                for key in partition_keys(partition)
            )
            return await asyncio.gather(asyncio.gather(*requests), asyncio.gather(*places))

        return self.run(look())

    def restart(self, dump: dict[bytes, tuple[bytes, int]], run_id: str) -> None:
        self.admin.flushall()
        for key, (value, expires_ms) in dump.items():
            self.admin.restore(key, max(0, expires_ms), value, absttl=True)
        for functions in self.store._functions:
            functions.run_id = run_id

    def dump(self) -> dict[bytes, tuple[bytes, int]]:
        keys = list(self.admin.scan_iter())
        dump: Any = self.admin.dump
        return {key: (dump(key), self.admin.pexpiretime(key)) for key in keys}


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Iterator[RealStore]:
    """On a single server, unless the test names another kind."""
    kind = getattr(request, "param", "valkey")
    with asyncio.Runner() as runner, deployed(request, kind) as deployment:
        real = RealStore(None, deployment.admin, runner.get_loop().run_until_complete)  # type: ignore[arg-type]
        real.store = ValkeyStore(deployment.url, clock_ms=lambda: real.now_ms)
        runner.run(real.store.connect())
        runner.run(real.listen())
        yield real
        runner.run(real.store.close())


@contextmanager
def broken(real: RealStore, right: str, wrong: str) -> Generator[None]:
    """While the store takes a broken library for its own."""
    assert right in CODE
    library = Library.of(CODE.replace(right, wrong))
    real.admin.function_load(library.code, replace=True)
    links = {*real.store._functions}
    for functions in links:
        functions.ours = library
    try:
        yield
    finally:
        for functions in links:
            functions.ours = OURS
        real.admin.function_load(CODE, replace=True)


def _on_answers(
    told: dict[int, asyncio.Future[Any]], step: Step, answers: Answers | Exception
) -> None:
    for place, (number, _) in enumerate(step):
        if isinstance(answers, Exception):
            told[number].set_exception(answers)
        else:
            told[number].set_result(answers.each[place])
