"""An edge's calls to other servers, with one total deadline and bounded responses."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpx

MAX_REDIRECTS = 3

Get = Callable[[str], Awaitable[bytes]]
"""Returns the body at a URL. Raises FetchFailed."""


class FetchFailed(Exception):
    """A URL could not be read. The message says why, but not where, because a URL may contain a
    secret.
    """


@asynccontextmanager
async def fetching(*, timeout_s: float, max_bytes: int, secure: bool) -> AsyncGenerator[Get]:
    """Yield a function that fetches URLs, for as long as the block lasts.

    ``timeout_s`` bounds everything, from the look-up of a name to the last byte, so a server that
    sends a byte now and then gains nothing. ``max_bytes`` bounds each body. ``secure``: whether
    there is an https URL among them. Raises FetchFailed.
    """
    try:
        async with asyncio.timeout(timeout_s), await _client(secure=secure) as client:
            yield partial(_get, client, max_bytes)
    except TimeoutError:
        raise FetchFailed(f"incomplete after {timeout_s:g} s") from None


async def _client(*, secure: bool) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        # The system's authorities, unless SSL_CERT_FILE and SSL_CERT_DIR name others. Loading them
        # takes 30 ms of CPU, and plain HTTP needs none.
        verify=await asyncio.to_thread(ssl.create_default_context) if secure else False,
        timeout=None,  # noqa: S113  # the block has one
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        # A compressed body would have to be decompressed to know its size.
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )


async def _get(client: httpx.AsyncClient, max_bytes: int, url: str) -> bytes:
    try:
        return await _body(client, max_bytes, url)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        is_away = isinstance(error, httpx.ConnectError)
        raise FetchFailed("no connection" if is_away else type(error).__name__) from None


async def _body(client: httpx.AsyncClient, max_bytes: int, url: str) -> bytes:
    body = bytearray()
    async with client.stream("GET", url) as answer:
        hops = (*answer.history, answer)
        if url.startswith("https:") and any(hop.url.scheme != "https" for hop in hops):
            raise FetchFailed("redirected from https to http")
        if answer.status_code != httpx.codes.OK:
            raise FetchFailed(f"answered with HTTP {answer.status_code}")
        async for part in answer.aiter_raw():
            body += part
            if len(body) > max_bytes:
                raise FetchFailed(f"longer than {max_bytes} bytes")
    return bytes(body)
