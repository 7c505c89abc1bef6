"""``lore ask``: one question, and its answer on the terminal over any number of reconnects."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing

from lore_client import (
    Cancelled,
    End,
    Event,
    Failed,
    HeldBack,
    HistoryLost,
    LoreError,
    Lost,
    Reader,
    ReaderConfig,
    Refused,
    State,
    Text,
    Unavailable,
)
from lore_client.place import Problem

KEY = "LORE_API_KEY"  # never an argument, which everyone on the machine can see
INTERRUPTED = 130
PATIENCE_S = 5.0
"""How many seconds to try to reach an edge. A person notices sooner than a program that none
answers.
"""
HELD_BACK = "something on the way holds the stream back; reading it in parts"
AT_ITS_LIMIT = "the answer ended at its token limit; ask with a larger --max-tokens for more"
QUEUED = "queued: waiting for a generator"
QUEUED_S = 3.0
"""An answer that is queued for so many seconds is reported."""
WORDS_AFTER_LOSSES = 2
"""So many lost connections in a row are reported. A single one is repaired before anybody
notices.
"""


def ask(
    question: str | None,
    *,
    edges: Sequence[str],
    parameters: Mapping[str, object],
    resume: str | None,
    stop: bool,
    command: str,
) -> int:
    """Ask, print the answer, and return the exit status. ``command`` is how to call it
    again, without a question. Raises Problem.
    """
    try:
        return asyncio.run(
            _Ask(edges, stop=stop, command=command).run(question, parameters, resume)
        )
    except asyncio.CancelledError:
        return INTERRUPTED  # Ctrl-C while the connections were being closed
    except BrokenPipeError:
        # The reader of our output has closed it, so the interpreter must not flush into it again.
        sys.stdout = None  # pyright: ignore[reportAttributeAccessIssue]
        return 0


def _key() -> str | None:
    """The API key. Raises Problem when it cannot stand in a header."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise Problem(f"{KEY} has characters that a key cannot have; copy the key again")
    return key or None


class _Queued:
    """Reports an answer that is queued for a while. A short stay needs no words."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def note(self, event: Event) -> None:
        if isinstance(event, State) and event.status == "queued":
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(QUEUED_S, self._tell)
        elif isinstance(event, State | Text):
            self.close()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        print(f"\n[{QUEUED}]", file=sys.stderr, flush=True)


class _Ask:
    def __init__(self, edges: Sequence[str], *, stop: bool, command: str) -> None:
        self._edges = edges
        self._stop = stop
        self._command = command

    async def run(
        self, question: str | None, parameters: Mapping[str, object], resume: str | None
    ) -> int:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
        config, api_key = ReaderConfig(patience_s=PATIENCE_S), _key()
        async with Reader(self._edges, config=config, api_key=api_key) as reader:
            request_id = resume
            try:
                if request_id is None:
                    view = await reader.create(
                        question, messages=None, idempotency_key=None, **parameters
                    )
                    request_id = view.request_id
                print(f"request {request_id}", file=sys.stderr, flush=True)
                return await self._read(reader, request_id)
            except asyncio.CancelledError:
                task.uncancel()
                return await self._interrupted(reader, request_id)
            except Refused as error:
                hint = f" (set {KEY})" if error.code == "unauthorized" else ""
                raise Problem(f"{error}{hint}") from error
            except Unavailable as error:
                raise Problem(f"{error}; does Lore run there? (lore up)") from error
            except (Failed, Cancelled, HistoryLost) as error:
                print(file=sys.stderr)
                raise Problem(str(error)) from error

    async def _read(self, reader: Reader, request_id: str) -> int:
        losses, end = 0, None
        with closing(_Queued()) as queued:
            async with reader.stream(request_id, revive=True) as stream:
                async for event in stream:
                    queued.note(event)
                    match event:
                        case Text():
                            losses = 0
                            print(event.text, end="", flush=True)
                        case Lost():
                            losses += 1
                            if losses == WORDS_AFTER_LOSSES:
                                print(f"\n[{event.edge}: {event.why}; trying on]", file=sys.stderr)
                        case HeldBack():
                            print(f"\n[{event.edge}: {HELD_BACK}]", file=sys.stderr)
                        case State(reason="released" | "failed_over"):
                            losses = 0
                        case End():
                            end = event
                        case _:
                            pass
        print(flush=True)
        if end is not None and end.finish_reason == "length":
            print(f"[{AT_ITS_LIMIT}]", file=sys.stderr)
        return 0

    async def _interrupted(self, reader: Reader, request_id: str | None) -> int:
        print(flush=True)
        if request_id is None:
            return INTERRUPTED
        if not self._stop:
            again = f"{self._command} --resume {request_id}"
            print(f"left; to read on: {again}", file=sys.stderr)
            return INTERRUPTED
        try:
            await reader.stop(request_id)
        except Refused:
            pass  # it ended at the same moment
        except (LoreError, asyncio.CancelledError) as error:
            reason = str(error) or "interrupted again"
            print(f"could not stop it: {reason}", file=sys.stderr)
            return INTERRUPTED
        print("stopped", file=sys.stderr)
        return INTERRUPTED
