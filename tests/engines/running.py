"""A remote engine under test, and what it hands over."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from lore.request import StreamRequest
from lore_generator.engine import Job
from lore_generator.engines.options import RemoteOptions
from lore_generator.engines.remote.engine import RemoteEngine
from tests.services.engine_sink import Collector


def ask(content: str = "Tell me about rivers.", **more: Any) -> StreamRequest:
    given = {"messages": [{"role": "user", "content": content}], "temperature": 0.0, "seed": 1}
    given |= {"max_tokens": 32, "repetition_penalty": 1.0}
    return StreamRequest.model_validate(given | more)


LONG = ask(max_tokens=200)
QUICK: dict[str, object] = {"answer_s": 0.5, "step_s": 1.0}
"""Times in which a stand-in can be told from one that hangs."""


class Running:
    def __init__(self, dialect: str, *urls: str, **options: Any) -> None:
        self.engine = RemoteEngine(RemoteOptions(dialect, urls, **options))
        self.sink = Collector()
        self.error: ValueError | None = None

    def __enter__(self) -> Self:
        self.start_in_thread()
        try:
            self.until_started()
        except AssertionError:
            self.engine.stop()
            raise
        return self

    def _start(self) -> None:
        try:
            self.info = self.engine.start(self.sink)
        except ValueError as error:
            self.error = error

    def start_in_thread(self) -> None:
        """For an engine that waits for its server."""
        self._starting = threading.Thread(target=self._start, daemon=True)
        self._starting.start()

    def until_started(self) -> None:
        self._starting.join(30)
        assert not self._starting.is_alive(), self.engine.trouble()
        if self.error is not None:
            raise self.error

    def __exit__(self, *_: object) -> None:
        self.engine.stop()

    def submit(
        self,
        name: str,
        request: StreamRequest,
        limit: int | None = None,
        *,
        log: Sequence[int] = (),
        text: str = "",
    ) -> None:
        self.engine.submit(Job(name, request, tuple(log), text), limit)

    def whole(self, name: str, request: StreamRequest, **log: Any) -> tuple[tuple[int, ...], str]:
        """The ids and the text of an answer that nothing holds back."""
        self.submit(name, request, **log)
        piece = self.sink.until_end(name)
        assert piece.error is None, piece.error
        return self.sink.ids(name), self.sink.text(name)

    def windowed(
        self, name: str, request: StreamRequest, window: int
    ) -> tuple[tuple[int, ...], str]:
        """The same under a window that opens once it is full. Never more than the credit."""
        limit = window
        self.submit(name, request, limit)
        while True:
            self.sink.until(lambda limit=limit: self.sink.moved(name, limit))
            assert len(self.sink.ids(name)) <= limit
            if self.sink.of(name)[-1].finish_reason is not None:
                return self.sink.ids(name), self.sink.text(name)
            limit += window
            self.engine.grant(name, limit)

    def until_trouble(self, wanted: str) -> None:
        """Until it says so; '' for none."""
        self._until(
            lambda: (wanted in self.engine.trouble()) if wanted else not self.engine.trouble(),
            lambda: f"wanted {wanted!r}, and it says {self.engine.trouble()!r}",
        )

    def until_no_call(self) -> None:
        """Until the server works on nothing for it."""
        self._until(lambda: not self.engine.stats().running, lambda: "a call is still under way")

    def _until(self, happened: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        """For what is asked, and tells nobody."""
        give_up_s = time.monotonic() + 30
        while not happened():
            if time.monotonic() > give_up_s:
                raise TimeoutError(otherwise())
            time.sleep(0.01)
