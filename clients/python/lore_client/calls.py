"""A call to an edge, with one total deadline and a bounded response."""

import asyncio
from typing import Any

import httpx

MAX_ANSWER_BYTES = 16 * 1_048_576
"""The most bytes of a response. The longest text with its state takes a tenth of it."""
_KEPT = ("retry-after", "content-type")


async def call(
    http: httpx.AsyncClient, method: str, url: str, *, timeout_s: float, **more: Any
) -> httpx.Response:
    """Call an edge and return the whole response. Raises httpx.RequestError.

    ``timeout_s`` bounds the call as a whole.
    """
    request = http.build_request(method, url, timeout=timeout_s, **more)
    try:
        async with asyncio.timeout(timeout_s):
            answer = await http.send(request, stream=True)
            try:
                return await read(answer)
            finally:
                await answer.aclose()
    except TimeoutError:
        raise httpx.ReadTimeout("no answer in time", request=request) from None


async def read(answer: httpx.Response) -> httpx.Response:
    """Read the body and return the response. Raises httpx.RequestError."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise httpx.RemoteProtocolError("the answer is too long", request=answer.request)
    headers = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
    return httpx.Response(
        answer.status_code, headers=headers, content=bytes(body), request=answer.request
    )
