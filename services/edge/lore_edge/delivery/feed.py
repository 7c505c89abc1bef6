"""One followed request at this edge, shared by all its readers here.

This is the shell of a ``Follower``: it carries out commands and decides nothing. Chunks that arrive
stay in a bounded ring, encoded once for all readers. A reader that needs older ones takes them from
the log, in pages, at its own pace.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from operator import methodcaller
from typing import Protocol

import structlog

from lore import logs
from lore.metrics import GAP_FILLS, REQUESTS_REVIVED
from lore.protocol.commands import Ack, Readers, Revive
from lore.protocol.follower import Follower
from lore.protocol.follower_types import (
    Acked,
    Acknowledge,
    Call,
    Check,
    Clear,
    FollowerConfig,
    Hole,
    Notify,
    ReadPage,
    ReadView,
    Return,
    StateChange,
)
from lore.protocol.lifecycle import Status
from lore.store.base import (
    ChunkMessage,
    Message,
    Outcome,
    Store,
    StoreUnavailable,
    View,
)
from lore.store.keys import partition_of
from lore_edge.delivery.ring import EncodedChunk, Ring, encode
from lore_edge.delivery.waker import Alarm
from lore_edge.wire.errors import LostRequest, UnknownRequest

_log = structlog.get_logger()


class FeedListener(Protocol):
    """What a feed calls for its readers; all on the event loop."""

    def on_news(self) -> None: ...

    def on_chunk(self, piece: EncodedChunk, now: float) -> None:
        """The next chunk has arrived; it is in the ring. ``now``: the loop's time."""
        ...

    def on_state(self, status: Status, reason: str) -> None: ...

    def on_acked(self, seq: int) -> None: ...


_NEWS = methodcaller("on_news")


class Feed:
    """A followed request. It is a ``Listener`` of the store."""

    def __init__(
        self,
        store: Store,
        request_id: str,
        subject: str,
        config: FollowerConfig,
        *,
        ring_chunks: int,
        ring_bytes: int,
        wait_s: float = 0.0,
    ) -> None:
        """It looks at once. ``wait_s``: how long to look for the request if the store does not have
        it.
        """
        loop = asyncio.get_running_loop()
        self.request_id = request_id
        self.readers: set[FeedListener] = set()
        self._store = store
        self._partition = partition_of(request_id)
        self._page_chunks = config.page_chunks
        self._ring = Ring(chunks=ring_chunks, size_bytes=ring_bytes)
        self._now = loop.time
        self._alarm = Alarm(self._on_timer)
        self._call: asyncio.Task[None] | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._opened: asyncio.Future[None] = loop.create_future()
        self.follower = Follower(config, subject, now=self._now(), wait_s=wait_s)
        self._carry_out()  # the first look; ``start`` subscribes meanwhile

    async def start(self) -> None:
        """Subscribe. Raises UnknownRequest or StoreUnavailable, and then follows nothing."""
        try:
            await self._store.follow(self.request_id, self)
            self.follower.on_subscribed(self._now())
            self._carry_out()
            await self._opened
        except BaseException:
            self._opened.add_done_callback(retrieve)
            self.stop()
            raise

    def on_readers(self, *, some: bool) -> None:
        """The first reader has come, or the last one has left."""
        self.follower.on_readers(self._now(), some=some)
        self._carry_out()

    async def leave(self) -> None:
        """Stop following a request without text, because no reader has come back."""
        with contextlib.suppress(StoreUnavailable):  # then the prompt is read for nobody
            await self._store.do(Readers(self.request_id, "left"))
        self.stop()

    def stop(self) -> None:
        self._alarm.cancel()
        if self._call is not None:
            self._call.cancel()
        for _, looked in self._waiting:
            looked.cancel()
        with contextlib.suppress(StoreUnavailable):  # then the subscription is lost, too
            self._store.unfollow(self.request_id, self)

    # what is known

    @property
    def view(self) -> View:
        return self.follower.view

    @property
    def head(self) -> int:
        return self.follower.head

    @property
    def log_id(self) -> str:
        return self.follower.view.log_id

    @property
    def last_seq(self) -> int | None:
        return self.follower.last_seq

    @property
    def acked_seq(self) -> int:
        return self.follower.acked_seq

    def piece(self, seq: int) -> EncodedChunk | None:
        """The chunk from the ring; None when it must be read from the log."""
        return self._ring.get(seq)

    def pieces_after(self, seq: int) -> Iterator[EncodedChunk]:
        return self._ring.after(seq)

    def tokens_at(self, seq: int) -> int | None:
        """How many tokens the answer has up to a chunk; None when that is unknown here."""
        view = self.view
        if seq == view.next_seq - 1:
            return view.generated_tokens
        if seq == 0:
            return 0
        piece = self.piece(seq)
        return piece.tokens if piece else None

    def check(self) -> None:
        """Raises UnknownRequest once the store does not have the request."""
        if self.follower.gone:
            raise LostRequest if self.follower.lost else UnknownRequest

    # what readers ask

    async def look(self) -> None:
        """Read the view now. Its news reaches the readers before this returns.

        Raises StoreUnavailable.
        """
        number = self.follower.look(self._now())
        if number > self.follower.looks:
            looked = asyncio.get_running_loop().create_future()
            self._waiting.append((number, looked))
            self._carry_out()
            await looked

    async def page(self, after: int, limit: int) -> list[EncodedChunk]:
        """Chunks after ``after`` from the log. Empty when there are none, when the log is another,
        or when the next chunk is lost for good. Raises StoreUnavailable.
        """
        chunks = await self._store.read(self.request_id, after=after, limit=limit, known=self.view)
        whole = self.follower.judge_page(after, chunks, self._now())
        self._carry_out()
        fork = self._fork
        return [encode(chunk, fork) for chunk in whole]

    async def text(self) -> str | None:
        """The whole answer so far; None when the log changed during the read.

        Raises StoreUnavailable.
        """
        parts: list[str] = []
        log_id, last_seq = self.log_id, self.view.next_seq - 1
        while len(parts) < last_seq:
            limit = min(self._page_chunks, last_seq - len(parts))
            page = await self.page(len(parts), limit)
            if not page:
                return None
            parts += [piece.text for piece in page]
        return "".join(parts) if self.log_id == log_id else None

    async def revive(self) -> None:
        """Revive the request; another caller may have done so before. Raises StoreUnavailable."""
        position = await self._store.do(Revive(self.request_id))
        REQUESTS_REVIVED.inc(position.outcome is Outcome.OK)
        await self.look()

    async def acknowledge(self, seq: int) -> None:
        """Acknowledge for a reader here that does not do so itself. Raises StoreUnavailable."""
        position = await self._store.do(Ack(self.request_id, seq))
        if position.outcome is not Outcome.OK:  # until its generator gives it back (P3)
            raise StoreUnavailable("the log is behind this reader, or forgotten")
        self.on_acked(position.acked_seq)

    def on_acked(self, seq: int) -> None:
        self.follower.on_acked(seq)
        self._carry_out()

    def on_resumed(self, seq: int) -> None:
        self.follower.on_resumed(seq, self._now())
        self._carry_out()

    # events of the store

    def on_message(self, message: Message) -> None:
        now = self._now()
        chunk = self.follower.on_message(message, now)
        if chunk is None:
            self._carry_out()
            return
        view = self.follower.view
        piece = encode(chunk, view.log_id if view.forks else "")
        self._ring.push(piece)
        for reader in self.readers:
            try:
                reader.on_chunk(piece, now)
            except Exception:  # noqa: BLE001
                _log_failure()

    def on_reset(self) -> None:
        self.follower.on_reset(self._now())
        self._carry_out()

    def _on_timer(self) -> None:
        self.follower.on_timer(self._now())
        self._carry_out()

    # commands

    def _carry_out(self) -> None:
        follower = self.follower
        while commands := follower.take():
            for command in commands:
                match command:
                    case Notify():
                        self._tell(_NEWS)
                    case Acked(seq):
                        self._tell(lambda reader, seq=seq: reader.on_acked(seq))
                    case StateChange() as state:
                        self._tell(lambda reader, state=state: reader.on_state(*state))
                    case Clear():
                        self._ring.clear()
                    case Hole(seq):
                        _log.error("log has a hole", **logs.of(follower.view), seq=seq)
                    case _:
                        self._call = asyncio.create_task(self._perform(command))
        if not self._opened.done() and (follower.is_open or follower.gone):
            self._settle_opening()
        self._alarm.set(follower.deadline())

    def _settle_opening(self) -> None:
        try:
            self.check()
        except UnknownRequest as error:
            self._opened.set_exception(error)
        else:
            self._opened.set_result(None)

    async def _perform(self, call: Call) -> None:
        follower, store, request_id = self.follower, self._store, self.request_id
        try:
            match call:
                case ReadView():
                    view = await store.view(request_id)
                    follower.on_view(view, store.run_id(self._partition), self._now())
                case ReadPage(after, limit):
                    self._on_log(await store.read(request_id, after=after, limit=limit))
                case Check(after, limit):
                    chunks = await store.read(request_id, after=after, limit=limit)
                    follower.on_checked(chunks, self._now())
                case Acknowledge(seq):
                    await store.do(Ack(request_id, seq))
                    follower.on_acknowledged(self._now())
                case Return():
                    await store.do(Readers(request_id, "back"))
                    follower.on_returned(self._now())
        except Exception as error:  # noqa: BLE001
            if not isinstance(error, StoreUnavailable):  # otherwise its readers would wait for ever
                _log.exception("feed failed", request_id=request_id)
                error = StoreUnavailable("the data in the store cannot be read")
            follower.on_failed(self._now())
            if not self._opened.done():
                self._opened.set_exception(error)
            self._looked(error)
        self._carry_out()
        self._looked(None)

    def _on_log(self, chunks: list[ChunkMessage]) -> None:
        # If the log has more of each chunk, each is read: none of them was missed.
        GAP_FILLS.inc(bool(chunks) and not self.view.has_more)
        for chunk in self.follower.on_log(chunks, self._now()):
            self._ring.push(encode(chunk, self._fork))

    def _looked(self, error: StoreUnavailable | None) -> None:
        """Wake those whose look was answered, or has failed."""
        looks = self.follower.looks
        for number, looked in self._waiting:
            if number <= looks and not looked.done():
                if error is None:
                    looked.set_result(None)
                else:
                    looked.set_exception(error)
        self._waiting = [one for one in self._waiting if not one[1].done()]

    @property
    def _fork(self) -> str:
        """What the ids of its chunks name (``EncodedChunk.fork``)."""
        view = self.follower.view
        return view.log_id if view.forks else ""

    def _tell(self, say: Callable[[FeedListener], None]) -> None:
        for reader in self.readers:
            try:
                say(reader)
            except Exception:  # noqa: BLE001
                _log_failure()


def _log_failure() -> None:
    """Log the error of one listener; the others are still called."""
    _log.exception("reader failed")


def retrieve(task: asyncio.Future[None]) -> None:
    """A done callback that retrieves the exception of a task whose failure nobody needs to know."""
    if not task.cancelled():
        task.exception()
