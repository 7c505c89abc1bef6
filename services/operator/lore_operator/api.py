"""Calls to the API server, each with a deadline and a bounded response.

Credentials are read for each call, because a pod's token is replaced every hour.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import kopf

TIMEOUT_S = 10.0
MAX_BYTES = 32 * 1_048_576
"""The most bytes of a response: a list of some thousand pods."""
MAX_LINE_BYTES = 4 * 1_048_576
"""The most bytes of an event in a watch. etcd keeps no object above 1.5 MiB."""
# In seconds: the server ends a watch after five minutes; the client ends one that the server forgot
# to end, and one in which not even a bookmark (one a minute) arrives.
SERVER_S, CLIENT_S, SILENT_S = 300, 330, 75
MAX_RETRY_AFTER_S = 30.0
MAX_SAID_CHARS = 200

Login = Callable[[], kopf.ConnectionInfo]


class ApiFailed(Exception):
    """The API server cannot be reached, or refused a call."""

    retry_after_s = 0.0
    """How many seconds it asks to be left alone."""


class Forbidden(ApiFailed):
    """RBAC denies it; the message names the verb and the resource."""


class Missing(ApiFailed):
    pass


class Conflict(ApiFailed):
    """The object is another one, or has another version, than was meant."""


_REFUSALS = {403: Forbidden, 404: Missing, 409: Conflict}
_SETTINGS = kopf.OperatorSettings()


def log_in() -> kopf.ConnectionInfo:
    """Log in as a pod, or by $KUBECONFIG or ~/.kube/config. Raises kopf.LoginError."""
    found = kopf.login_with_service_account(settings=_SETTINGS)
    found = found or kopf.login_with_kubeconfig(settings=_SETTINGS)
    if found is None:
        raise kopf.LoginError("no cluster: not in a pod, and neither KUBECONFIG nor ~/.kube/config")
    return found


@contextmanager
def expected(what: str) -> Iterator[None]:
    """Raise ApiFailed when a response has an unexpected form."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = type(error).__name__
        raise ApiFailed(f"the API server's answer to {what} cannot be read: {reason}") from None


class Api:
    """Calls to the API server. All raise ApiFailed."""

    def __init__(self, login: Login = log_in) -> None:
        """Create it within a running loop. Raises kopf.LoginError, and OSError for missing
        certificates.
        """
        self._login = login
        info = login()
        secure = info.server.startswith("https:")
        self._session = aiohttp.ClientSession(
            info.server.rstrip("/"),
            connector=aiohttp.TCPConnector(ssl=info.as_ssl_context() if secure else True),
        )

    async def close(self) -> None:
        await self._session.close()

    async def call(
        self, method: str, path: str, body: object = None, **params: str
    ) -> dict[str, Any]:
        what = f"{method} {path}"
        with _failures(what):
            async with asyncio.timeout(TIMEOUT_S), self._ask(method, path, body, params) as reply:
                return await _judged(what, reply)

    async def watch(self, path: str, **params: str) -> AsyncIterator[dict[str, Any]]:
        """Yield each event, until the server or a deadline ends the watch."""
        params |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(SERVER_S)}
        what = f"watch {path}"
        with _failures(what):
            # The time is checked after each whole line: a server that drips bytes counts as silent.
            loop = asyncio.get_running_loop()
            ends_s = loop.time() + CLIENT_S
            async with (
                asyncio.timeout(SILENT_S) as silence,
                self._ask("GET", path, None, params) as reply,
            ):
                if reply.status != 200:
                    await _judged(what, reply)
                    raise ApiFailed(f"{what}: {reply.status}")
                async for line in _lines(reply.content):
                    silence.reschedule(min(loop.time() + SILENT_S, ends_s))
                    yield _event(what, line)

    def _ask(self, method: str, path: str, body: object, params: dict[str, str]) -> Any:
        patches = method == "PATCH"
        kind = {"Content-Type": f"application/{'merge-patch+' if patches else ''}json"}
        return self._session.request(
            method,
            path,
            params=params,
            headers=self._credentials() | kind,
            data=None if body is None else json.dumps(body),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S),
            allow_redirects=False,
        )

    def _credentials(self) -> dict[str, str]:
        try:
            return dict(self._login().as_http_headers())
        except Exception as error:  # noqa: BLE001  # a file may hold anything while it is replaced
            raise ApiFailed(f"cannot log in to the cluster: {_said(error)}") from None


@contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise ApiFailed(f"the API server does not answer {what}: {_said(error)}") from None


async def _judged(what: str, reply: aiohttp.ClientResponse) -> dict[str, Any]:
    answer = await _json(reply)
    if 200 <= reply.status < 300:
        if not isinstance(answer, dict):
            raise ApiFailed(f"the API server's answer to {what} is not a JSON object")
        return answer
    told = answer.get("message", "") if isinstance(answer, dict) else ""
    refused = _REFUSALS.get(reply.status, ApiFailed)(f"{what}: {reply.status} {_short(told)}")
    refused.retry_after_s = _seconds(reply.headers.get("Retry-After"))
    raise refused


async def _json(reply: aiohttp.ClientResponse) -> Any:
    """The JSON of a response; None when it is not JSON."""
    body = bytearray()
    async for part in reply.content.iter_any():
        body += part
        if len(body) > MAX_BYTES:
            raise ValueError(f"longer than {MAX_BYTES} bytes")
    try:
        return json.loads(body)
    except (RecursionError, ValueError):
        return None


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for part in content.iter_any():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError(f"a line longer than {MAX_LINE_BYTES} bytes")
    if rest:
        raise ValueError("its last line was cut off")


def _event(what: str, line: bytes) -> dict[str, Any]:
    """Parse an event. Raises ApiFailed, also for an event that is an error."""
    try:
        event = json.loads(line)
    except (RecursionError, ValueError):
        raise ApiFailed(f"{what}: a line is not JSON") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ApiFailed(f"{what}: a line is not an event")
    if event["type"] != "ERROR":
        return event
    told = event.get("object")
    told = told if isinstance(told, dict) else {}
    error = ApiFailed(f"{what}: {_short(told.get('code'))} {_short(told.get('message'))}")
    details = told.get("details")
    if isinstance(details, dict):
        error.retry_after_s = _seconds(details.get("retryAfterSeconds"))
    raise error


def _seconds(given: object) -> float:
    """A Retry-After in seconds; 0 for any other form."""
    try:
        return max(0.0, min(float(str(given)), MAX_RETRY_AFTER_S))
    except ValueError:
        return 0.0


def _said(error: Exception) -> str:
    return _short(str(error)) or type(error).__name__


def _short(told: object) -> str:
    """A text for the log: one line of it, because it may be anything."""
    return " ".join(str(told or "").split())[:MAX_SAID_CHARS]
