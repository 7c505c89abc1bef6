"""The operator goes on through anything that an API server may answer in a bad minute.

A table of cases, to which a reader adds a line: each answers every call of the operator, watches
included, until the operator has tried each of them again; then the server is well.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import kopf
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from lore.store import MemoryStore
from lore_operator import api as api_module
from lore_operator import watch as watch_module
from lore_operator.api import ApiFailed
from lore_operator.cluster import ApiServer
from lore_operator.settings import OperatorSettings
from lore_operator.sweeper import Sweeper
from lore_operator.watch import PAUSES_S, pause_s, watches
from tests.services.kube_stub import NAMESPACE, KubeStub, Misbehaviour, pod, policy
from tests.services.test_operator_process import OperatorProcess

WAIT_S = 60


def status(code: int, message: str = "no", **headers: str) -> Misbehaviour:
    async def answer(_: web.Request) -> web.Response:
        body = {"kind": "Status", "status": "Failure", "code": code, "message": message}
        return web.json_response(body, status=code, headers=headers)

    return answer


def plain(body: bytes, code: int = 200, kind: str = "application/json") -> Misbehaviour:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code, body=body, content_type=kind)

    return answer


def lines(*parts: bytes, then: str = "end") -> Misbehaviour:
    """A body without a length, which then ends, is reset, or is silent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        if then == "reset":
            assert request.transport is not None
            request.transport.abort()
        elif then == "silent":
            await asyncio.Event().wait()
        return response

    return answer


def event(kind: str, **body: Any) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


async def _reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _silent(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def _dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)
    return response


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(b" " * 65_536)
    return response


ADDED = event("ADDED", metadata={"name": "gen-1", "resourceVersion": "1"})
CASES: dict[str, Misbehaviour] = {
    "400": status(400),
    "401": status(401, "Unauthorized"),
    "403": status(403, "forbidden: no RBAC policy matched"),
    "404": status(404, "the server could not find the requested resource"),
    "409": status(409),
    "410": status(410, "too old resource version: 1 (2)"),
    "422": status(422),
    "429": status(429),
    "429 with Retry-After": status(429, **{"Retry-After": "1"}),
    "429 with a date": status(429, **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    "429 with an absurd time": status(429, **{"Retry-After": "-1e999"}),
    "500": status(500, "etcdserver: leader changed"),
    "502, a page": plain(b"<html>Bad Gateway</html>", 502, "text/html"),
    "503": status(503, "apiserver is shutting down"),
    "504": status(504, "Timeout: request did not complete"),
    "301": plain(b"", 301),
    "302 to here": status(302, Location="/"),
    "204": plain(b"", 204),
    "an empty body": plain(b""),
    "a page": plain(b"<html>Sign in</html>", kind="text/html"),
    "half a line": lines(ADDED[:20]),
    "an event and half a line": lines(ADDED, ADDED[:20]),
    "half a line, and a reset": lines(ADDED, ADDED[:20], then="reset"),
    "a cut within a character": lines(b'{"type": "\xc3\n'),
    "a line is not JSON": lines(b"E1129 panic\n"),
    "a line is not an event": lines(b'{"kind": "Status"}\n'),
    "a line that is a list": lines(b"[]\n"),
    "a line that is null": lines(b"null\n"),
    "nested": lines(b"[" * 100_000 + b"\n"),
    "an object where a list should be": plain(b'{"items": {"a": 1}, "metadata": 7, "status": []}'),
    "items without a name": plain(b'{"items": [{}], "metadata": {}, "spec": [], "status": {}}'),
    "items that are null": plain(b'{"items": [null], "metadata": null}'),
    "410 as an event": lines(event("ERROR", code=410, message="too old resource version")),
    "410 after an event": lines(ADDED, event("ERROR", code=410, message="too old")),
    "500 as an event": lines(event("ERROR", code=500, message="etcdserver: no leader")),
    "429 as an event": lines(event("ERROR", code=429, details={"retryAfterSeconds": 1})),
    "an error of nothing": lines(b'{"type": "ERROR", "object": null}\n'),
    "an error in words": lines(b'{"type": "ERROR", "object": "oops"}\n'),
    "an unknown event": lines(event("RENAMED", metadata={})),
    "events without an object": lines(b'{"type": "ADDED"}\n'),
    "closed at once": lines(),
    "reset": _reset,
    "reset in the body": lines(ADDED, then="reset"),
    "silent": _silent,
    "silent in the body": lines(ADDED, then="silent"),
    "dripping": _dripping,
    "without end": _endless,
}


@pytest.fixture
async def kube() -> AsyncIterator[KubeStub]:
    async with KubeStub().serve() as kube:
        await kube.put("streampolicies", policy())
        await kube.put("pods", pod())
        yield kube


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses and deadlines that a test lives to see."""
    monkeypatch.setattr(watch_module, "PAUSES_S", (0.02,))
    monkeypatch.setattr(api_module, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(api_module, "SILENT_S", 0.3)
    monkeypatch.setattr(api_module, "MAX_RETRY_AFTER_S", 0.1)
    monkeypatch.setattr(api_module, "MAX_BYTES", 262_144)
    monkeypatch.setattr(api_module, "MAX_LINE_BYTES", 262_144)


@asynccontextmanager
async def operating(kube: KubeStub) -> AsyncIterator[list[asyncio.Task[None]]]:
    cluster = ApiServer(NAMESPACE, kube.login)
    sweeper = Sweeper(OperatorSettings(sweep_s=0.1), cluster, MemoryStore())
    await sweeper.start()
    tasks = [asyncio.create_task(one.run()) for one in watches(cluster, "lore", sweeper.wake)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await sweeper.stop()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("answer", CASES.values(), ids=CASES.keys())
async def test_it_goes_on_and_says_each_reason_in_a_line(kube: KubeStub, answer: Misbehaviour):
    kube.misbehaving = answer
    with capture_logs() as logs:
        async with operating(kube) as tasks:
            tries = Counter[str]()

            def tried() -> bool:
                tries.update(verb for verb, what in kube.calls if what == "misbehaving")
                kube.calls.clear()
                return tries["watch"] >= 6 and tries["list"] + tries["review"] >= 2

            await kube.until(tried)
            kube.misbehaving = None
            await kube.until(
                lambda: {("watch", "pods"), ("watch", "streampolicies")} <= {*kube.calls}
            )
            await kube.until(lambda: kube.condition("Permitted").get("status") == "True")
            await kube.put("pods", pod("gen-2"))
            await kube.until(lambda: kube.status.get("generators", {}).get("total") == 2)
            assert not any(task.done() for task in tasks)
    told = [line for line in logs if line["log_level"] in ("warning", "error")]
    assert told
    assert not any("exception" in line or "exc_info" in line for line in logs), logs
    assert len({str(line) for line in told}) == len(told), "each is said once"
    assert len(told) <= 8, told
    assert all(len(str(line)) < 600 and "\n" not in str(line.get("reason")) for line in told)


def test_a_watch_that_does_not_last_is_tried_at_most_twice_in_three_seconds():
    waited = [pause_s(failures, 0.0, chance=0.0) for failures in range(20)]
    assert waited == sorted(waited)
    assert waited[0] == 0.75 * PAUSES_S[0]
    assert pause_s(1000, 0.0, chance=1.0) == 1.25 * PAUSES_S[-1]
    assert pause_s(0, 20.0, chance=0.0) == 20.0, "the server said how long"


async def test_pauses_grow_while_watches_end_at_once(
    kube: KubeStub, monkeypatch: pytest.MonkeyPatch
):
    """HTTP 410 as an event: it made 19 watches and 12 lists a second."""
    kube.misbehaving = CASES["410 as an event"]
    pauses: list[float] = []

    async def sleep(wait_s: float) -> None:
        pauses.append(wait_s)
        if len(pauses) == 6:
            raise asyncio.CancelledError

    monkeypatch.setattr(watch_module.random, "random", lambda: 0.5)
    monkeypatch.setattr(watch_module.asyncio, "sleep", sleep)
    async with ApiServer(NAMESPACE, kube.login) as cluster:
        with pytest.raises(asyncio.CancelledError):
            await watches(cluster, "lore", lambda: None)[0].run()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


async def test_a_server_that_wants_to_be_left_alone_is(kube: KubeStub):
    async with ApiServer(NAMESPACE, kube.login) as cluster:
        for answer, wait_s in (
            (status(429, **{"Retry-After": "7"}), 7.0),
            (status(503, **{"Retry-After": "7"}), 7.0),
            (status(429, **{"Retry-After": "86400"}), api_module.MAX_RETRY_AFTER_S),
            (status(429, **{"Retry-After": "soon"}), 0.0),
            (status(500), 0.0),
        ):
            kube.misbehaving = answer
            with pytest.raises(ApiFailed) as raised:
                await cluster.policy("lore")
            assert raised.value.retry_after_s == wait_s
            with pytest.raises(ApiFailed) as raised:
                async for _ in cluster.changes("pods"):
                    pass
            assert raised.value.retry_after_s == wait_s


CREDENTIALS = {
    "an empty token": lambda: kopf.ConnectionInfo(server="http://x", token=""),
    "a token with a line end": lambda: kopf.ConnectionInfo(server="http://x", token="a\r\nb: c"),
    "no login": lambda: (_ for _ in ()).throw(kopf.LoginError("no cluster")),
    "a file that is gone": lambda: (_ for _ in ()).throw(FileNotFoundError(2, "no such file")),
    "half a file": lambda: (_ for _ in ()).throw(KeyError("clusters")),
    "another kind of file": lambda: (_ for _ in ()).throw(TypeError("no mapping")),
}


@pytest.mark.parametrize("broken", CREDENTIALS.values(), ids=CREDENTIALS.keys())
async def test_credentials_that_are_being_replaced_fail_one_call(kube: KubeStub, broken: Any):
    logins = itertools.chain(
        [kube.login], itertools.repeat(broken, 2), itertools.repeat(kube.login)
    )
    kube.misbehaving = None
    async with ApiServer(NAMESPACE, lambda: next(logins)()) as cluster:
        with suppress(ApiFailed):  # an empty token is the server's to refuse
            await cluster.policy("lore")
        with suppress(ApiFailed):
            async for _ in cluster.changes("pods"):
                break
        assert (await cluster.policy("lore"))["metadata"]["name"] == "lore"


async def test_a_process_lives_through_a_bad_minute_with_few_calls(
    kube: KubeStub, tmp_path: Path
) -> None:
    """With its own pauses. What it may ask is bounded; a slow machine only asks less."""
    loop = asyncio.get_running_loop()
    async with OperatorProcess(kube, tmp_path, valkey_url="memory://") as operator:
        await kube.until(lambda: kube.condition("Permitted").get("status") == "True")
        await kube.until(lambda: {("watch", "pods"), ("watch", "streampolicies")} <= {*kube.calls})
        kube.calls.clear()
        began_s = loop.time()
        for name in (
            "410 as an event",
            "401",
            "a line is not JSON",
            "500 as an event",
            "reset",
        ):
            before = len(kube.calls)
            kube.misbehaving = CASES[name]
            await kube.drop_watches()
            await kube.until(lambda before=before: len(kube.calls) >= before + 4)
        a_second = len(kube.calls) / (loop.time() - began_s)
        print(f"{a_second:.1f} calls a second in {loop.time() - began_s:.0f} s")
        assert a_second < 5
        kube.misbehaving = None
        kube.calls.clear()
        await kube.until(lambda: {("watch", "pods"), ("watch", "streampolicies")} <= {*kube.calls})
        assert operator.process.returncode is None
        operator.process.terminate()
        assert await operator.exited() == 0
    assert "Traceback" not in operator.log
