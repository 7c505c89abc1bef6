"""What an edge asks of other servers: JSON, in one total deadline and of a bounded size."""

import asyncio
import ssl

import httpx

MAX_REDIRECTS = 3


class FetchFailed(Exception):
    """It cannot be had. Says so in a few words, and nothing of where: an address may hold a
    secret."""


async def fetch(url: str, *, timeout_s: float, max_bytes: int) -> bytes:
    """The body of a GET.

    The deadline is for all of it, from the name's look-up to the last byte: a server that sends
    a byte now and then gains nothing by it. Raises FetchFailed.
    """
    try:
        async with asyncio.timeout(timeout_s):
            # The system's authorities, as SSL_CERT_FILE and SSL_CERT_DIR may change them; loading
            # them takes 30 ms of CPU, and plain HTTP needs none.
            secure = url.startswith("https:")
            trusted = await asyncio.to_thread(ssl.create_default_context) if secure else False
            async with _client(trusted, timeout_s) as client:
                return await _body(client, url, max_bytes)
    except TimeoutError:
        raise FetchFailed(f"not whole after {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise FetchFailed(_words(error)) from None


def _client(trusted: ssl.SSLContext | bool, timeout_s: float) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=trusted,
        timeout=timeout_s,
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        # What is packed would have to be unpacked to know its size.
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )


async def _body(client: httpx.AsyncClient, url: str, max_bytes: int) -> bytes:
    """Raises FetchFailed and what httpx raises."""
    body = bytearray()
    async with client.stream("GET", url) as answer:
        if url.startswith("https:") and answer.url.scheme != "https":
            raise FetchFailed("redirected from https to http")
        if answer.status_code != httpx.codes.OK:
            raise FetchFailed(f"answered with HTTP {answer.status_code}")
        async for part in answer.aiter_raw():
            body += part
            if len(body) > max_bytes:
                raise FetchFailed(f"longer than {max_bytes} bytes")
    return bytes(body)


def _words(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return type(error).__name__
