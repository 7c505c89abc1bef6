"""What an edge hears of a request, and what it does when it may have missed some (P10).

Messages are hints. Whatever makes them doubtful (a gap, a lost subscription) makes the
edge read the view and the log until nothing is missing. A chunk of a log that the view
does not know makes it read the view before anything later goes out (P4).
"""

import asyncio
import contextlib
from typing import Protocol

import structlog

from lore import logs
from lore.metrics import GAP_FILLS
from lore.protocol.lifecycle import ENDED, LIVE, Status
from lore.protocol.merge import Arrival, Merge
from lore.store.base import (
    AckMessage,
    ChunkMessage,
    Message,
    StateMessage,
    Store,
    StoreUnavailable,
    View,
)
from lore.store.keys import partition_of
from lore_edge.errors import LostRequest, UnknownRequest
from lore_edge.history import is_broken, is_foreign
from lore_edge.ring import Piece, Ring, encode

PAGE_CHUNKS = 256
RETRY_S = 0.05
MAX_RETRY_S = 1.0
UNKNOWN_RETRY_S = 0.2
LOOK_AGAIN_S = 0.02  # the reader who has just come is served first

_log = structlog.get_logger()

_REASONS = {
    Status.QUEUED: "released",
    Status.GENERATING: "resumed",
    Status.PAUSED: "paused",
    Status.REAPED: "reaped",
}
"""What to say of a change whose message was lost."""


class Follower(Protocol):
    """What a feed tells its readers; all of it on the event loop."""

    def on_news(self) -> None: ...

    def on_state(self, status: Status, reason: str) -> None: ...

    def on_acked(self, seq: int) -> None: ...


class Hearing:
    """A ``Listener`` of one request on behalf of one subject, to whom somebody else's is none.
    ``view`` is the last one read and may be a little old."""

    view: View

    def __init__(
        self,
        store: Store,
        request_id: str,
        subject: str,
        *,
        ring_chunks: int,
        ring_bytes: int,
        restore_grace_s: float,
    ) -> None:
        self.request_id = request_id
        self.subject = subject
        self._partition = partition_of(request_id)
        self.followers: set[Follower] = set()
        self.acked_seq = 0
        self.gone = False
        """The store no longer has the request."""
        self.lost = False
        """It went with the store's data, and not because its time was over."""
        self.holes: frozenset[int] = frozenset()
        """Chunks of the ended answer that its log lacks for good."""
        self._store = store
        self._merge = Merge()
        self._ring = Ring(chunks=ring_chunks, size_bytes=ring_bytes)
        self._states: list[StateMessage] = []
        self._restore_grace_s = restore_grace_s
        self._run_id = ""
        self._forgotten_s: float | None = None
        self._look = False
        self._look_again: asyncio.TimerHandle | None = None
        self._started = False
        self._viewing = asyncio.Lock()
        self._catching_up: asyncio.Task[None] | None = None

    async def start(self, *, wait_s: float = 0.0) -> None:
        """Subscribe, and look meanwhile, for ``wait_s`` when it is not there: its owner may be
        about to give it back. What came between that look and the subscription shows in the
        next one (P12), which nobody waits for. Raises UnknownRequest or StoreUnavailable;
        follows nothing then."""
        following = asyncio.ensure_future(self._store.follow(self.request_id, self))
        try:
            view = await self._first_view(wait_s)
            self._run_id = self._store.run_id(self._partition)
            await following
        except BaseException:
            following.add_done_callback(retrieve)
            following.cancel()
            await self.stop()
            raise
        self.view, self._started = view, True
        self.acked_seq = max(self.acked_seq, view.acked_seq)
        self._merge = Merge(view.next_seq - 1)
        loop = asyncio.get_running_loop()
        self._look_again = loop.call_later(LOOK_AGAIN_S, self.look_soon)

    async def _first_view(self, wait_s: float) -> View:
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + wait_s
        while (view := await self._seen()) is None:
            if loop.time() >= give_up_s:
                raise LostRequest if wait_s else UnknownRequest
            await asyncio.sleep(UNKNOWN_RETRY_S)
        return view

    async def _seen(self) -> View | None:
        """Somebody else's request is looked at as one that never was, and as often."""
        view = await self._store.view(self.request_id)
        return view if view is not None and view.subject == self.subject else None

    async def stop(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
        if self._catching_up is not None:
            self._catching_up.cancel()
        with contextlib.suppress(StoreUnavailable):  # its connection is gone, and so is this
            await self._store.unfollow(self.request_id, self)

    @property
    def head(self) -> int:
        """The last seq that every reader here may have."""
        return self._merge.head

    @property
    def log_id(self) -> str:
        return self.view.log_id

    @property
    def last_seq(self) -> int | None:
        """The answer's last chunk, once it ended."""
        return self.view.next_seq - 1 if self.view.status in ENDED else None

    async def look(self) -> None:
        """Read the view now: what it says reaches the followers before this returns."""
        await self._read_view()
        if self._merge.missing:
            self._kick()

    def look_soon(self) -> None:
        """Read the view when convenient: a hint may have been lost."""
        self._look = True
        self._kick()

    def on_acked(self, seq: int) -> None:
        if seq > self.acked_seq:
            self.acked_seq = seq
            for follower in self.followers:
                follower.on_acked(seq)

    # what the store says

    def on_message(self, message: Message) -> None:
        if isinstance(message, ChunkMessage):
            self._on_chunk(message)
        elif isinstance(message, AckMessage):
            self.on_acked(message.acked_seq)
        else:
            self._states.append(message)
            self.look_soon()

    def on_reset(self) -> None:
        self._merge.on_reset()
        self.look_soon()

    def _on_chunk(self, message: ChunkMessage) -> None:
        if not self._started:
            return  # the look that follows shows it
        if is_foreign(message, self.view):
            self.on_reset()
        else:
            arrival = self._merge.on_live(message.seq)
            if arrival is Arrival.NEXT:
                self._push(message)
                self._tell()
            elif arrival is Arrival.GAP:
                self._kick()

    # catching up

    def _kick(self) -> None:
        if self._started and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = asyncio.create_task(self._catch_up())

    async def _catch_up(self) -> None:
        delay_s = RETRY_S
        while (self._look or self._merge.missing) and not self.gone:
            head = self.head
            try:
                if self._look:
                    self._look = False
                    await self._read_view()
                if self._merge.missing:
                    await self._read_on()
                waits = self._forgotten_s is not None
                stuck = waits or (self._merge.missing and self.head == head)
            except StoreUnavailable:
                self._look = stuck = True
            if stuck:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_RETRY_S)

    async def _read_on(self) -> None:
        """Read one page after the head."""
        after = self._merge.start_read()
        try:
            chunks = await self._store.read(self.request_id, after=after, limit=PAGE_CHUNKS)
        except StoreUnavailable:
            self._merge.on_reset()
            raise
        for chunk in chunks:
            if is_foreign(chunk, self.view):
                self.on_reset()
                break
            arrival = self._merge.on_log(chunk.seq)
            if arrival is Arrival.GAP:
                if not await self._find_hole(self.head):
                    self._merge.on_reset()
                break
            if arrival is Arrival.NEXT:
                self._push(chunk)
        if chunks:
            GAP_FILLS.inc()
            self._tell()
        if len(chunks) == PAGE_CHUNKS and self.head > after:
            self._merge.on_reset()

    async def _find_hole(self, after: int) -> bool:
        """Whether what follows ``after`` is lost for good; only an ended log tells."""
        if self.last_seq is None or after >= self.last_seq:
            return False
        if after + 1 not in self.holes and await is_broken(self._store, self.request_id, after):
            _log.error("hole in the log", **logs.of(self.view), seq=after + 1)
            self.holes |= {after + 1}
        return after + 1 in self.holes

    async def _read_view(self) -> None:
        async with self._viewing:  # an older view must not come after a newer one
            view = await self._seen()
            if self._look_again is not None:
                self._look_again.cancel()
            if view is None:
                self._on_unknown()
            else:
                self._run_id, self._forgotten_s = self._store.run_id(self._partition), None
                self._on_view(view)
                await self._acknowledge_again(view)

    async def _acknowledge_again(self, view: View) -> None:
        """Acks that went with the store's data would leave a window closed for ever (P9)."""
        seq = min(self.acked_seq, view.next_seq - 1)
        if seq > view.acked_seq and view.status in LIVE:
            await self._store.ack(self.request_id, seq)

    def _on_unknown(self) -> None:
        """Deleted, or forgotten with the store's data: its owner gives it back then (P3)."""
        now = asyncio.get_running_loop().time()
        self.lost = self._store.run_id(self._partition) != self._run_id
        if self._forgotten_s is None:
            self._forgotten_s = now
        if self.lost and now < self._forgotten_s + self._restore_grace_s:
            self.look_soon()
        else:
            self.gone = True
            self._tell()

    def _on_view(self, view: View) -> None:
        before, self.view = self.view, view
        if view.log_id != before.log_id:
            self._fork(view.shared(before.log_id))
        if view.next_seq - 1 > self.head:
            self._merge.on_reset()
        self.on_acked(view.acked_seq)
        states, self._states = self._states, []
        if not states and view.status is not before.status and view.status in _REASONS:
            states = [StateMessage(view.status, _REASONS[view.status])]
        for state in states:
            if state.reason != "ended":
                for follower in self.followers:
                    follower.on_state(state.status, state.reason)
        if view.status in ENDED:
            self._tell()

    def _fork(self, shared: int) -> None:
        """The chunks after ``shared`` are others now, and each id names its log (P4)."""
        self._ring.clear()
        self._merge = Merge(min(self._merge.head, shared))
        self.acked_seq = min(self.acked_seq, shared)
        self._tell()

    # the ring

    def _encode(self, chunk: ChunkMessage) -> Piece:
        return encode(chunk, self.log_id if self.view.forks else "")

    def _push(self, chunk: ChunkMessage) -> None:
        self._ring.push(self._encode(chunk))

    def _tell(self) -> None:
        for follower in self.followers:
            follower.on_news()


def retrieve(task: asyncio.Future[None]) -> None:
    """For a task whose failure need not be heard by anybody."""
    if not task.cancelled():
        task.exception()
