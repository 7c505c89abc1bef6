"""A reader that takes nothing on trust, for load tests under Locust.

Locust runs on gevent, where ``lore_client`` with its event loop cannot, so this is a reader's loop
once more; bytes, events and acks are judged by the client's own code. Where a client would mend or
wait, this one says what was wrong.
"""

import logging
import random
import secrets
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from http import HTTPStatus

import gevent
from gevent.event import Event as Changed
from pydantic import ValidationError
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from loadtest.harness.strict_calls import CONFIG, Broken, Calls, Measure, refusal
from lore_client import End, State, Text
from lore_client.edges import TryAgain
from lore_client.protocol.receiver import Receiver
from lore_client.sse import ServerEvent, SseParser

SILENT_S = 120.0
"""No new text for so long, heartbeats or not: the answer counts as broken."""
FINISHED = ("stop", "length")
STREAM = "text/event-stream"
_log = logging.getLogger("lore.loadtest")


class Answer:
    """One answer as one reader has it."""

    def __init__(self, calls: Calls, body: Mapping[str, object], measure: Measure) -> None:
        """Ask. Every method may raise Broken."""
        self._calls = calls
        self._measure = measure
        self._receiver = Receiver(CONFIG.receiver)
        self._texts: list[str] = []
        self._last_event_id = ""
        self._resume = ""
        self._by_header = random.random() < 0.5
        self._due = Changed()
        self.longest_pause_s = 0.0
        key = secrets.token_urlsafe(16)
        self.view = calls.view("POST", "/v1/streams", dict(body), Idempotency_Key=key)
        self.asked_s = self._text_s = calls.sent_s
        measure("ask", time.perf_counter() - self.asked_s)
        self._log_id = self.view.log_id
        self._path = f"/v1/streams/{self.view.request_id}"

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def read(self, chunks: int | None = None, *, lag_s: float = 0.0) -> bool:
        """Read to the end, or only so many more chunks, and hang up. Says whether it has ended.

        ``lag_s``: what this reader takes over each chunk.
        """
        with closing(self._pieces()) as pieces:
            for number, piece in enumerate(pieces, 1):
                if isinstance(piece, End):
                    return True
                if number == chunks:
                    break
                if lag_s:
                    gevent.sleep(lag_s)
        return False

    def be_cut(self, away_s: float) -> None:
        """After ``read`` has hung up: come back after this time, at another edge."""
        gevent.sleep(away_s)
        self._calls.edges.advance()
        self._resume = "resume to next byte"
        self._text_s = time.perf_counter()

    def compare(self) -> None:
        """The whole answer with the JSON view that another edge has of it. Raises Broken."""
        self._calls.edges.advance()
        view = self._calls.view("GET", self._path)
        if view.status != "done" or view.next_seq - 1 != self._receiver.position:
            raise self._broken("the JSON view has another end")
        if view.text != self.text:
            raise self._broken("the JSON view has another text")

    def _pieces(self) -> Generator[Text | End, None, None]:
        failures = 0
        while True:
            try:
                with closing(self._connection()) as pieces:
                    for piece in pieces:
                        failures = 0
                        yield piece
                        if isinstance(piece, End):
                            return
            except TryAgain as reason:
                self._check_silence()
                self._calls.wait(reason, failures)
                failures += 1
                self._resume = "resume after a loss"

    def _connection(self) -> Generator[Text | End, None, None]:
        """What one connection brings. Raises TryAgain when it is lost."""
        self._receiver.on_reconnect()
        self._opened_s = time.perf_counter()
        self._opened_at = self._receiver.position
        response = self._open()
        acker = gevent.spawn(self._acknowledge)
        try:
            if response.status == HTTPStatus.NO_CONTENT:
                yield self._end(self._end_of_view())
                return
            if response.status != HTTPStatus.OK:
                raise refusal(response)
            for event in self._events(response):
                piece = self._take(event)
                if piece is not None:
                    yield piece
        except ValidationError as error:
            raise self._broken("not the protocol") from error
        finally:
            acker.kill(block=False)
            response.close()

    def _open(self) -> BaseHTTPResponse:
        """As ``EventSource`` does it, or as our own clients do."""
        position = self._receiver.position
        if not position:
            return self._calls.stream(self.view.stream_url, Accept=STREAM)
        self._by_header = not self._by_header
        if self._by_header:
            last = self._last_event_id
            return self._calls.stream(self.view.stream_url, Accept=STREAM, Last_Event_ID=last)
        return self._calls.stream(f"{self._path}?after={position}:{self._log_id}", Accept=STREAM)

    def _events(self, response: BaseHTTPResponse) -> Generator[ServerEvent, None, None]:
        parser = SseParser()
        while True:
            try:
                data = response.read1()
            except HTTPError as error:
                raise TryAgain(f"the connection broke: {type(error).__name__}") from error
            if not data:
                raise TryAgain("the edge ended the connection")
            yield from parser.feed(data)
            self._check_silence()

    def _take(self, event: ServerEvent) -> Text | End | None:
        match event.event:
            case "message":
                return self._chunk(Text.model_validate_json(event.data), event.last_event_id)
            case "state":
                state = State.model_validate_json(event.data)
                self._log_id = state.log_id or self._log_id
                if state.reason in ("drain", "store_lost"):
                    raise TryAgain("the edge sends its readers elsewhere")
            case "end":
                return self._end(End.model_validate_json(event.data))
            case "error" if "history_lost" in event.data:
                raise self._broken("history_lost")
            case "error":
                raise TryAgain("an error event")
            case _:
                pass
        return None

    def _chunk(self, chunk: Text, event_id: str) -> Text | None:
        """P1, P11, P12. A chunk may come again while the edge waits for its ack, as it was."""
        now = time.perf_counter()
        seq, _, log_id = event_id.partition(":")
        if seq != str(chunk.seq):
            raise self._broken("an id that is not its seq", chunk.seq)
        if chunk.seq > self._receiver.position + 1:
            raise self._broken("a gap", chunk.seq)
        if chunk.seq <= self._opened_at:
            raise self._broken("a doubled chunk", chunk.seq)
        new = chunk.seq > self._receiver.position
        if not new and chunk.text != self._texts[chunk.seq - 1]:
            raise self._broken("a chunk with another text", chunk.seq)
        self._receiver.on_chunk(chunk.seq, chunk.text, now)
        self._due.set()
        if not new:
            self._measure("sent again", 0.0)
            return None
        self._last_event_id, self._log_id = event_id, log_id or self._log_id
        self._note(now)
        self._texts.append(chunk.text)
        return chunk

    def _note(self, now: float) -> None:
        """The time of new text."""
        if self._resume:
            self._measure(self._resume, now - self._opened_s)
            self._resume = ""
        if not self._texts:
            self._measure("time to first text", now - self.asked_s)
        else:
            self.longest_pause_s = max(self.longest_pause_s, now - self._text_s)
        self._text_s = now

    def _end(self, end: End) -> End:
        if end.status != "done" or end.error:
            raise self._broken(f"a wrong end: {end.status}")
        if end.finish_reason not in FINISHED:
            raise self._broken(f"a wrong end: finish_reason {end.finish_reason}")
        if end.last_seq != self._receiver.position:
            raise self._broken("a wrong end: not that of the last chunk", end.last_seq)
        self._receiver.on_end(time.perf_counter())
        self._send_due()
        return end

    def _end_of_view(self) -> End:
        """There is nothing left to read; how the request ended stands in its view."""
        view = self._calls.view("GET", self._path)
        return End(
            status=view.status,
            finish_reason=view.finish_reason,
            error=view.error,
            last_seq=view.next_seq - 1,
        )

    def _check_silence(self) -> None:
        if time.perf_counter() - self._text_s > SILENT_S:
            raise self._broken(f"no text for {SILENT_S:.0f} s")

    def _acknowledge(self) -> None:
        """Beside the reading, so that neither waits for the other (protocol P9)."""
        while True:
            self._due.clear()
            deadline = self._receiver.deadline()
            if deadline is not None and deadline <= time.perf_counter():
                self._send_due()
            else:
                left_s = None if deadline is None else deadline - time.perf_counter()
                self._due.wait(left_s)

    def _send_due(self) -> None:
        seq = self._receiver.take_ack(time.perf_counter())
        if seq is None:
            return
        began_s = time.perf_counter()
        try:
            response = self._calls.call("POST", f"{self._path}/ack", {"seq": seq})
            why = "" if response.status == HTTPStatus.NO_CONTENT else str(response.status)
        except TryAgain as reason:
            why = reason.why
        now = time.perf_counter()
        if why:
            self._calls.again(f"ack: {why}", CONFIG.retry_s)
            self._receiver.on_ack_lost(now + CONFIG.retry_s)
        else:
            self._measure("ack", now - began_s)

    def _broken(self, what: str, seq: int | None = None) -> Broken:
        _log.error(
            "%s: request %s, edge %s, had %d chunks%s",
            what,
            self.view.request_id,
            self._calls.edges.current,
            self._receiver.position,
            "" if seq is None else f", got seq {seq}",
        )
        return Broken(what)
