"""One answer, read to its end whatever the network does (protocol P1, P12).

Iterating yields text, which follows exactly what came before, and states. Text is acknowledged once
it was taken. So a reader that stops iterating closes the window, and the GPU turns to others.
Closing the stream never stops the answer; ``Reader.stop`` does.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Self

import httpx
from pydantic import BaseModel, ValidationError

from lore_client.acks import Acker
from lore_client.calls import read
from lore_client.edges import NO_PROTOCOL, Edges, ReaderConfig, TryAgain, describe, judge
from lore_client.events import (
    Cancelled,
    End,
    ErrorDetail,
    Event,
    Failed,
    HeldBack,
    HistoryLost,
    Lost,
    Poll,
    State,
    Text,
    Unavailable,
    Usage,
    View,
)
from lore_client.polls import Polls, StreamHeldBack
from lore_client.protocol.fallback import WAIT_S
from lore_client.protocol.receiver import Receiver
from lore_client.reading import Counters, Reading
from lore_client.source import Source
from lore_client.sse import ServerEvent

SENT_AWAY = {
    "drain": "the edge is shutting down",
    "store_lost": "the edge cannot reach its store",
}


class _ErrorEvent(BaseModel):
    error: ErrorDetail


class Stream(AsyncIterator[Event]):
    """Iterate over it once. Raises Failed, Cancelled, HistoryLost, Refused or Unavailable."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        edges: Edges,
        request_id: str,
        config: ReaderConfig,
        *,
        after: int,
        log_id: str,
        acks: bool,
        revive: bool,
    ) -> None:
        self.request_id = request_id
        self._config = config
        self._acks = acks
        self._revive = revive
        self._receiver = Receiver(config.receiver, position=after)
        self._reading = Reading(
            http, edges, f"/v1/streams/{request_id}", config, self._receiver, log_id
        )
        self._acker = Acker(self._reading)
        self._polls = Polls(self._reading)
        self._source = Source(self._reading, self._polls)
        self._failures = 0
        self._status = ""
        self._connected_at = 0.0
        self._events = self._run()

    @property
    def position(self) -> int:
        """The last seq whose text was yielded: ``after`` for a stream that continues here."""
        return self._receiver.position

    @property
    def log_id(self) -> str:
        """The log in which ``position`` counts; '' until an edge names it."""
        return self._reading.log_id

    @property
    def counters(self) -> Counters:
        return self._reading.counters

    @property
    def duplicates(self) -> int:
        return self._receiver.duplicates

    @property
    def edge(self) -> str:
        """The URL of the edge in use."""
        return self._reading.edges.current

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Stop reading. The answer goes on for other readers, or until its window is used up."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self) -> AsyncGenerator[Event, None]:
        self._source.heard_at = self._now()
        self._ack_task = asyncio.create_task(self._acker.run())
        try:
            while True:
                lost, heard_at = None, self._source.heard_at
                self._connected_at = self._now()
                async with aclosing(self._connection()) as events:
                    try:
                        async for event in events:
                            yield event
                    except TryAgain as reason:
                        if not reason.heard:
                            self._source.heard_at = heard_at
                        lost = self._lost(reason)
                if lost is None:
                    break
                yield lost
                await asyncio.sleep(lost.delay_s)  # jittered: readers of a lost edge spread
                self._reading.edges.advance()
                self._acker.moved()
                self.counters.reconnects += 1
        finally:
            self._ack_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._ack_task

    def _lost(self, reason: TryAgain) -> Lost:
        if self._now() - self._source.heard_at > self._config.stream_patience_s:
            raise Unavailable(f"no edge answers: {reason.why}") from reason
        if self._now() - self._connected_at > self._config.backoff_max_s:
            self._failures = 0
        delay_s = reason.delay_s
        if delay_s is None:
            delay_s = self._config.backoff_s(self._failures, self._source.retry_s)
        self._failures += 1
        return Lost(self.edge, reason.why, delay_s)

    async def _connection(self) -> AsyncGenerator[Event, None]:
        """One edge's events, up to the answer's end. Raises TryAgain when no more come."""
        self._receiver.on_reconnect()
        while True:
            poll: Poll | None = None
            if not self._polls.fallback.is_polling(self._now()):
                try:
                    async with aclosing(self._streamed()) as streamed:
                        async for event in streamed:
                            yield event
                    return
                except StreamHeldBack as held:
                    poll = held.poll
                yield HeldBack(self.edge)
            async with aclosing(self._polled(poll)) as polled:
                async for event in polled:
                    yield event
                    if isinstance(event, End):
                        return

    async def _streamed(self) -> AsyncGenerator[Event, None]:
        """One connection's events, up to the answer's end. Raises TryAgain when it breaks, and
        StreamHeldBack.
        """
        self._polls.fallback.on_asked(self._now())
        watch = asyncio.create_task(self._polls.watch())
        try:
            async with self._source.open() as response:
                if response.status_code == HTTPStatus.NO_CONTENT:
                    yield await self._finished(await self._end_of_view())
                    return
                if response.status_code != HTTPStatus.OK:
                    async with asyncio.timeout(self._config.call_timeout_s):
                        raise judge(await read(response))
                if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    raise TryAgain(NO_PROTOCOL, heard=False)
                async with aclosing(self._source.events(response)) as server_events:
                    async for server_event in server_events:
                        event = await self._take(server_event)
                        if event is not None:
                            yield event
                        if isinstance(event, End):
                            return
        except httpx.RequestError as error:
            raise TryAgain(describe(error)) from error
        except TimeoutError as error:
            self._polls.check()
            raise TryAgain("no answer") from error
        except ValidationError as error:
            raise TryAgain(NO_PROTOCOL, heard=False) from error
        finally:
            watch.cancel()

    async def _polled(self, poll: Poll | None) -> AsyncGenerator[Event, None]:
        """The events of finished responses, until a stream is to be tried again (P18). ``poll`` is
        the first of them. Raises TryAgain when an edge gives no more.
        """
        while poll is not None or self._polls.fallback.is_polling(self._now()):
            poll = poll or await self._polls.ask(WAIT_S)
            self._source.heard_at = self._now()
            self._in_log(poll.log_id)
            due = self._receiver.deadline()
            text = self._receiver.on_text(poll.seq, poll.text, self._now(), tokens=poll.tokens)
            self._check_ack(due)
            if text:
                self._failures = 0
                yield Text(seq=self.position, text=text, tokens=self._receiver.tokens)
            if poll.end is not None:
                yield await self._finished(poll.end)
                return
            changed = poll.state.status != self._status
            state = await self._on_state(poll.state)
            if changed:
                yield state
            poll = None

    async def _take(self, event: ServerEvent) -> Event | None:
        match event.event:
            case "message":
                # In a forked log the id is <seq>:<log_id>.
                self._in_log(event.last_event_id.partition(":")[2])
                text = self._on_chunk(Text.model_validate_json(event.data))
                if not text:
                    return None
                self._failures = 0
                self._source.silence.on_text()
                return Text(seq=self.position, text=text, tokens=self._receiver.tokens)
            case "state":
                return await self._on_state(State.model_validate_json(event.data))
            case "end":
                return await self._finished(End.model_validate_json(event.data))
            case "error":
                error = _ErrorEvent.model_validate_json(event.data).error
                if error.code in ("history_lost", "given_up"):
                    raise HistoryLost(error.message)
                raise TryAgain(error.message)
            case _:
                return None

    def _on_chunk(self, chunk: Text) -> str:
        due = self._receiver.deadline()
        text = self._receiver.on_chunk(chunk.seq, chunk.text, self._now(), tokens=chunk.tokens)
        self._check_ack(due)
        return text

    def _check_ack(self, due: float | None) -> None:
        """Tell the acker if its deadline, which was ``due``, has moved."""
        if self._acks and self._receiver.deadline() != due:
            self._acker.changed()

    def _in_log(self, log_id: str) -> None:
        """What follows is in this log, if the edge names one."""
        if log_id and log_id != self.log_id:
            if self.log_id:
                # Early chunks of the older log do not belong to this text (P4).
                self._receiver.on_reconnect()
            self._reading.log_id = log_id

    async def _on_state(self, state: State) -> State:
        self._in_log(state.log_id)
        due = self._receiver.deadline()
        self._receiver.on_window(state.window, self._now())
        self._check_ack(due)
        self._source.silence.on_told(state.silence_ms / 1000)
        self._polls.fallback.on_told(state.silence_ms / 1000)
        self._status = state.status
        if state.reason in SENT_AWAY:
            raise TryAgain(SENT_AWAY[state.reason], self._source.retry_s)
        if state.status == "reaped" and self._revive:
            response = await self._reading.call("POST", "/revive")
            # 409: another reader revived it first.
            if not response.is_success and response.status_code != HTTPStatus.CONFLICT:
                raise judge(response)
        return state

    async def _end_of_view(self) -> End:
        """After a 204 nothing is left to read; the view says how the request ended."""
        response = await self._reading.call("GET", headers={"Accept": "application/json"})
        if not response.is_success:
            raise judge(response)
        view = View.model_validate_json(response.content)
        return End(
            status=view.status,
            finish_reason=view.finish_reason,
            error=view.error,
            last_seq=view.next_seq - 1,
            usage=Usage(
                prompt_tokens=view.prompt_tokens,
                completion_tokens=view.generated_tokens,
                total_tokens=view.prompt_tokens + view.generated_tokens,
            ),
        )

    async def _finished(self, end: End) -> End:
        if end.last_seq > self.position:
            raise TryAgain("the end came before the text was complete", heard=False)
        if self._acks:
            self._receiver.on_end(self._now())
            await self._last_ack()
        if end.status == "failed":
            raise Failed(end.error or "the request failed without a reason")
        if end.status == "cancelled":
            raise Cancelled("the request was stopped")
        return end

    async def _last_ack(self) -> None:
        """Deliver the last ack, for a bounded time. Once the answer is complete, its loss does no
        harm.
        """
        self._acker.end()
        await asyncio.wait({self._ack_task}, timeout=self._config.last_ack_s)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
