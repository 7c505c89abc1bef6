"""The Python reader: asks, reads and cancels, over a list of edges that may come and go."""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar
from weakref import WeakSet

import httpx
from pydantic import ValidationError

from lore_client.calls import call
from lore_client.edges import NO_PROTOCOL, Edges, ReaderConfig, TryAgain, describe, judge
from lore_client.events import Unavailable, View
from lore_client.stream import Stream

T = TypeVar("T")

# Loopback addresses are never reached through a proxy from the environment.
_NO_PROXY = {"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None}


class Reader:
    """``async with Reader(["http://127.0.0.1:8080"]) as reader: …``

    Calls go from edge to edge until one answers, and raise Unavailable after
    ``config.patience_s`` or Refused when an edge says no.
    """

    def __init__(
        self,
        edges: Sequence[str],
        *,
        config: ReaderConfig | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        """``api_key``: an API key or a JWT, for edges with authentication.

        Raises ValueError when an edge's address is invalid.
        """
        self._urls = list(edges)
        self._config = config or ReaderConfig()
        self._edges = Edges(edges)
        self._starts = itertools.count()
        self._streams: WeakSet[Stream] = WeakSet()
        self._http = httpx.AsyncClient(
            headers={**(headers or {}), **_credentials(api_key)},
            timeout=self._config.call_timeout_s,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            mounts=_NO_PROXY,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave all streams. Answers go on for other readers."""
        for stream in list(self._streams):
            await stream.aclose()
        await self._http.aclose()

    async def create(
        self,
        question: str | None = None,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        idempotency_key: str | None = None,
        **parameters: object,
    ) -> View:
        """Create a request. ``parameters`` are those of ``StreamRequest``.

        Waits while the queue is full, as long as ``config.patience_s`` allows. Without an
        ``idempotency_key``, one is made, so that a retry after a lost reply creates no second
        request. Raises Refused or Unavailable.
        """
        body: dict[str, object] = dict(parameters)
        if question is not None:
            body["question"] = question
        if messages is not None:
            body["messages"] = [dict(message) for message in messages]
        key = idempotency_key or secrets.token_urlsafe(16)
        headers = {"Idempotency-Key": key}
        return await self._view("POST", "/v1/streams", json=body, headers=headers)

    def stream(
        self,
        request_id: str,
        *,
        after: int = 0,
        log_id: str = "",
        acks: bool = True,
        revive: bool = False,
    ) -> Stream:
        """Read an answer from ``after`` on, to its end.

        ``log_id`` names the log in which ``after`` counts, for a reader that kept both.
        ``acks=False`` is for requests whose ``ack`` is not ``client``. ``revive`` revives a reaped
        request (P16). Streams start on the edges in turn.
        """
        stream = Stream(
            self._http,
            Edges(self._urls, start=next(self._starts)),
            request_id,
            self._config,
            after=after,
            log_id=log_id,
            acks=acks,
            revive=revive,
        )
        self._streams.add(stream)
        return stream

    async def view(self, request_id: str) -> View:
        """The request's state and the text so far. Raises Refused or Unavailable."""
        return await self._view("GET", f"/v1/streams/{request_id}")

    async def stop(self, request_id: str) -> None:
        """Cancel the request for everybody (P14). Raises Refused when it ended otherwise before."""
        await self._call("DELETE", f"/v1/streams/{request_id}", lambda _: None)

    async def revive(self, request_id: str) -> View:
        """Revive a reaped request: it continues where its text ends (P16)."""
        return await self._view("POST", f"/v1/streams/{request_id}/revive")

    async def _view(self, method: str, path: str, **more: Any) -> View:
        return await self._call(method, path, View.model_validate_json, **more)

    async def _call(self, method: str, path: str, parse: Callable[[bytes], T], **more: Any) -> T:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._config.patience_s
        failures = 0
        while True:
            try:
                url, timeout_s = self._edges.current + path, self._config.call_timeout_s
                response = await call(self._http, method, url, timeout_s=timeout_s, **more)
                if response.is_success:
                    return parse(response.content)
                verdict = judge(response)
            except httpx.RequestError as error:
                verdict = TryAgain(describe(error))
            except ValidationError:
                verdict = TryAgain(NO_PROTOCOL)
            if not isinstance(verdict, TryAgain):
                raise verdict
            delay_s = verdict.delay_s
            if delay_s is None:
                # The other edges are asked at once. Only a whole round of failures causes a pause.
                rounds, others = divmod(failures + 1, len(self._edges))
                delay_s = 0.0 if others else self._config.backoff_s(rounds, self._config.retry_s)
            left_s = give_up_at - loop.time()
            if left_s <= 0 or (verdict.delay_s or 0.0) > left_s:
                raise Unavailable(f"{self._edges.current}: {verdict.why}")
            delay_s = min(delay_s, left_s)  # so that patience ends with a try, whatever the backoff
            failures += 1
            await asyncio.sleep(delay_s)  # jittered, or as the edge asked
            self._edges.advance()


def _credentials(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
