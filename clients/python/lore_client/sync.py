"""The same reader for code without an event loop: it has one of its own, on a thread.

    with SyncReader(["http://127.0.0.1:8080"]) as reader:
        asked = reader.create("What is a pointer?")
        for event in reader.stream(asked.request_id):
            ...

Acknowledgments are sent while the caller does something else; text is read only when asked for.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from lore_client.edges import ReaderConfig
from lore_client.events import Event, View
from lore_client.reader import Reader
from lore_client.reading import Counters
from lore_client.stream import Stream

T = TypeVar("T")


class SyncReader:
    """Like ``Reader``, callable from any thread. Raises the same errors."""

    def __init__(
        self,
        edges: Sequence[str],
        *,
        config: ReaderConfig | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        self._loop = _Loop()
        self._reader = Reader(edges, config=config, headers=headers, api_key=api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave all streams. Answers go on for other readers."""
        if self._loop.is_there:
            self._loop.wait(self._reader.aclose())
            self._loop.close()

    def create(
        self,
        question: str | None = None,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        idempotency_key: str | None = None,
        **parameters: object,
    ) -> View:
        return self._loop.wait(
            self._reader.create(
                question, messages=messages, idempotency_key=idempotency_key, **parameters
            )
        )

    def stream(
        self,
        request_id: str,
        *,
        after: int = 0,
        log_id: str = "",
        acks: bool = True,
        revive: bool = False,
    ) -> "SyncStream":
        stream = self._reader.stream(
            request_id, after=after, log_id=log_id, acks=acks, revive=revive
        )
        return SyncStream(self._loop, stream)

    def view(self, request_id: str) -> View:
        return self._loop.wait(self._reader.view(request_id))

    def stop(self, request_id: str) -> None:
        self._loop.wait(self._reader.stop(request_id))

    def revive(self, request_id: str) -> View:
        return self._loop.wait(self._reader.revive(request_id))


class SyncStream(Iterator[Event]):
    """Like ``Stream``: iterate over it once."""

    def __init__(self, loop: "_Loop", stream: Stream) -> None:
        self._loop = loop
        self._stream = stream

    def __next__(self) -> Event:
        event = self._loop.wait(self._next())
        if event is None:
            raise StopIteration
        return event

    async def _next(self) -> Event | None:
        return await anext(self._stream, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading. The answer goes on for other readers, or until its window is used up."""
        self._loop.wait(self._stream.aclose())

    @property
    def request_id(self) -> str:
        return self._stream.request_id

    @property
    def position(self) -> int:
        return self._stream.position

    @property
    def log_id(self) -> str:
        return self._stream.log_id

    @property
    def counters(self) -> Counters:
        return self._stream.counters

    @property
    def edge(self) -> str:
        return self._stream.edge


class _Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def is_there(self) -> bool:
        return self._thread.is_alive()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the caller was interrupted, for example by Ctrl-C
            raise

    def close(self) -> None:
        self.wait(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
