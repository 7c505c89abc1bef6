"""Chooses the edge and the pause before the next try, and interprets responses."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx
from pydantic import BaseModel, ValidationError

from lore_client.events import ErrorDetail, HistoryLost, LoreError, Refused
from lore_client.protocol.receiver import ReceiverConfig

_TRY_AGAIN = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


@dataclass(frozen=True, slots=True)
class ReaderConfig:
    receiver: ReceiverConfig = field(default_factory=ReceiverConfig)
    silence_s: float = 40.0
    """Reconnect after so many seconds without even a heartbeat, until an edge names its own
    limit.
    """
    call_timeout_s: float = 10.0
    patience_s: float = 30.0
    """How many seconds a call goes from edge to edge before it raises Unavailable."""
    stream_patience_s: float = 600.0
    """The same for a stream, counted from the last byte that an edge sent."""
    retry_s: float = 1.0
    """The base of the backoff in seconds, until an edge names another with ``retry:``."""
    backoff_max_s: float = 10.0
    ack_backoff_max_s: float = 2.0
    """The longest backoff of an ack in seconds: a closed window may wait for it (protocol P6)."""
    last_ack_s: float = 2.0
    """How many seconds to try to deliver the last ack when the answer is complete."""

    def backoff_s(self, failures: int, retry_s: float, max_s: float | None = None) -> float:
        """The pause in seconds after so many failures in a row, with full jitter, so that the
        readers of a lost edge do not all come back at once.

        The first attempt comes soon: at most a quarter of ``retry_s``.
        """
        ceiling_s = retry_s / 4 if failures == 0 else retry_s * 2 ** (min(failures, 16) - 1)
        return random.uniform(0, min(ceiling_s, max_s or self.backoff_max_s))


def address(text: str) -> str:
    """The base URL of an edge; HTTP if no scheme is named.

    Raises ValueError, whose message says what is wrong.
    """
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL as error:
        raise ValueError(f"'{text}' is not an edge's address ({error})") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"'{text}' is not an edge's address, such as http://localhost:8080")
    if url.port is not None and url.port > 65535:
        raise ValueError(f"'{text}' is not an edge's address (a port is at most 65535)")
    return str(url).rstrip("/")


class Edges:
    """The edges that serve the same requests, and the one in use."""

    def __init__(self, urls: Sequence[str], *, start: int = 0) -> None:
        """Raises ValueError when a URL is invalid, or there is none."""
        if not urls:
            raise ValueError("name at least one edge")
        self._urls = [address(url) for url in urls]
        self._index = start % len(urls)

    def __len__(self) -> int:
        return len(self._urls)

    @property
    def current(self) -> str:
        return self._urls[self._index]

    def advance(self) -> None:
        self._index = (self._index + 1) % len(self._urls)


class TryAgain(Exception):
    """This edge cannot answer now. ``delay_s`` is the delay that it asked for, or None. ``heard``:
    its response counts as a sign of life.
    """

    def __init__(self, why: str, delay_s: float | None = None, *, heard: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.delay_s = delay_s
        self.heard = heard


NO_PROTOCOL = "the edge sent something that is not the protocol"


class _ErrorBody(BaseModel):
    error: ErrorDetail


def judge(response: httpx.Response) -> TryAgain | LoreError:
    """The error that a response without success means. Its body must have been read."""
    status = response.status_code
    try:
        detail = _ErrorBody.model_validate_json(response.content).error
    except ValidationError:
        detail = ErrorDetail(code="unknown", message=f"the edge answered with HTTP {status}")
    if status in _TRY_AGAIN:
        after = response.headers.get("Retry-After", "")
        return TryAgain(detail.message, float(after) if after.isdecimal() else None)
    if status == HTTPStatus.GONE:
        return HistoryLost(detail.message)
    return Refused(status, detail)


def describe(error: httpx.RequestError) -> str:
    """A few words for a person; many transport errors have no message."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "no connection"
    if isinstance(error, httpx.TimeoutException):
        return "no answer"
    return "the connection broke"
