"""The HTTP of a strict reader: one call after another, to edges that may come and go, on gevent."""

import ssl
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

import gevent
import httpx
from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError

from lore_client import HistoryLost, ReaderConfig, Refused, View
from lore_client.edges import Edges, TryAgain, judge

CONFIG = ReaderConfig()
_TLS = ssl.create_default_context()

Measure = Callable[[str, float], None]
"""Takes what was measured, and the seconds."""


class Broken(Exception):
    """Something is not as the protocol promises. Says the same of all that broke alike, so that
    they can be counted."""


class Calls:
    """Connections of one reader's own, so that readers wait for each other at the edge alone."""

    def __init__(
        self, edges: Sequence[str], api_key: str, again: Measure, *, start: int = 0
    ) -> None:
        """``again`` hears why a call had to be made once more, and how long that was put off."""
        self.edges = Edges(edges, start=start)
        self.again = again
        self.sent_s = 0.0
        """When the last call went out."""
        self._http = PoolManager(ssl_context=_TLS, maxsize=2)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def close(self) -> None:
        self._http.clear()

    def stream(self, path: str, **headers: str) -> BaseHTTPResponse:
        """The body is left to be read. Raises TryAgain when no answer comes."""
        return self._request("GET", path, None, headers, read_s=CONFIG.silence_s, preload=False)

    def call(self, method: str, path: str, body: object = None, **headers: str) -> BaseHTTPResponse:
        """Once. Raises TryAgain when no answer comes."""
        read_s = CONFIG.call_timeout_s
        return self._request(method, path, body, headers, read_s=read_s, preload=True)

    def view(self, method: str, path: str, body: object = None, **headers: str) -> View:
        """A call that is answered with the JSON view, made until an edge takes it.

        Admission may refuse for as long as it likes. For other reasons it is Broken in the end.
        """
        give_up_at = time.perf_counter() + CONFIG.patience_s
        failures = 0
        while True:
            try:
                response = self.call(method, path, body, **headers)
                if response.status in (HTTPStatus.OK, HTTPStatus.CREATED):
                    return View.model_validate_json(response.data)
                raise refusal(response)
            except TryAgain as reason:
                if not reason.why.startswith("429 ") and time.perf_counter() > give_up_at:
                    raise Broken(f"no edge took the call: {reason.why}") from reason
                self.wait(reason, failures)
                failures += 1

    def wait(self, reason: TryAgain, failures: int) -> None:
        """Before the next edge is asked."""
        delay_s = reason.delay_s
        if delay_s is None:
            delay_s = CONFIG.backoff_s(failures, CONFIG.retry_s)
        self.again(reason.why, delay_s)
        gevent.sleep(delay_s)
        self.edges.advance()

    def _request(
        self,
        method: str,
        path: str,
        body: object,
        headers: dict[str, str],
        *,
        read_s: float,
        preload: bool,
    ) -> BaseHTTPResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.sent_s = time.perf_counter()
        try:
            return self._http.request(
                method,
                self.edges.current + path,
                json=body,
                headers={**self._headers, **named},
                timeout=Timeout(connect=CONFIG.call_timeout_s, read=read_s),
                retries=False,
                preload_content=preload,
            )
        except HTTPError as error:
            raise TryAgain(f"no answer: {type(error).__name__}") from error


def refusal(response: BaseHTTPResponse) -> TryAgain | Broken:
    """What an answer without success means."""
    verdict = judge(
        httpx.Response(response.status, headers=dict(response.headers), content=response.data)
    )
    if isinstance(verdict, HistoryLost):
        return Broken("history_lost")
    if isinstance(verdict, Refused):
        return Broken(f"refused: {verdict.status} {verdict.code}")
    assert isinstance(verdict, TryAgain)
    if response.status == HTTPStatus.TOO_MANY_REQUESTS and verdict.delay_s is None:
        return Broken("429 without Retry-After")
    return TryAgain(f"{response.status} {verdict.why}", verdict.delay_s)
