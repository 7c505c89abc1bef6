"""Nothing that the stack writes holds a prompt, an answer, a key or a token.

Real processes are driven through what goes well and much that does not, with words that occur
nowhere else in all that is secret. Then everything they wrote, their metrics and their spans
are searched.
"""

import asyncio
import json
import secrets
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from lore import apikeys
from lore.protocol.lifecycle import ENDED
from lore.store.base import NewRequest
from lore.store.types import Open
from tests.faults.fleet import Fleet
from tests.services.auth_harness import Issuer, KeyRing, bearer
from tests.services.test_edge_process import refusal
from tests.services.tracing_harness import Collector, collector

WAIT_S = 60.0
SLICE_CHARS = 24
"""So much of an answer, in a row, is one: no log says so by chance."""
STREAM = {"Accept": "text/event-stream"}


class Canaries:
    """Words to look for, by what they stand for."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def new(self, what: str) -> str:
        return self.watch(what, f"canary{secrets.token_hex(8)}")

    def watch(self, what: str, word: str) -> str:
        self.words[what] = word
        return word

    def found_in(self, text: str) -> set[str]:
        return {what for what, word in self.words.items() if word in text}


class Stack:
    """A store, a generator and an edge that asks for keys, and somebody who has them."""

    def __init__(
        self, fleet: Fleet, canaries: Canaries, key: str, issuer: Issuer, collector: Collector
    ) -> None:
        self.fleet = fleet
        self.collector = collector
        self.canaries = canaries
        self.key = key
        self.issuer = issuer
        self.http = httpx.AsyncClient(base_url=fleet.readers[0], timeout=WAIT_S, trust_env=False)

    async def post(
        self, path: str, status: int, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        chosen = bearer(self.key) if headers is None else headers
        answer = await self.http.post(path, headers=chosen, **more)
        assert answer.status_code == status, answer.text
        return answer

    def kept(self, what: str, text: str) -> str:
        """A name for something long and secret, of which any part would be too much."""
        for number, part in enumerate(text.split(".")):
            self.canaries.watch(f"{what}, part {number}", part)
        return text

    def written(self) -> Iterator[tuple[str, str]]:
        for log in sorted(self.fleet.folder.glob("*.log")):
            yield log.name, log.read_text()

    def metrics(self) -> Iterator[tuple[str, str]]:
        """By the ports that the logs tell of."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for name, text in self.written():
            for line in text.splitlines():
                if line.startswith("{") and (said := json.loads(line))["event"] == "health":
                    with opener.open(f"http://127.0.0.1:{said['port']}/metrics") as answer:
                        yield f"metrics of {name}", answer.read().decode()

    def check(self) -> None:
        metrics = list(self.metrics())
        assert len(metrics) == 2, "of the edge, and of the generator"
        spans = [("spans", body.decode(errors="replace")) for body in self.collector.bodies]
        assert set(self.collector.spans()) == {"lore-edge", "lore-generator"}
        found = {
            name: said
            for name, text in [*self.written(), *metrics, *spans]
            if (said := self.canaries.found_in(text))
        }
        assert not found


@asynccontextmanager
async def running_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    canaries = Canaries()
    ring, issuer = KeyRing(tmp_path / "keys"), Issuer()
    key = canaries.watch("the API key", ring.new("alice"))
    canaries.watch("the hash of the API key", apikeys.digest(key))
    (tmp_path / "jwks").write_text(issuer.jwks())
    settings = ring.settings | issuer.settings | {"jwt_jwks": str(tmp_path / "jwks")}
    settings |= {"secret": canaries.new("the secret") * 2, "stream_token_s": 600}
    settings |= {"system_prompt": f"Say {canaries.new('the system prompt')}."}
    talkative = {"log_level": "debug"}
    generator = {"synthetic_rate": 400} | talkative
    fleet = Fleet(generators=1, edges=1, edge=settings | talkative, generator=generator)
    with collector() as taken:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
        password = canaries.new("the collector's password")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Basic%20{password}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        try:
            async with fleet:
                stack = Stack(fleet, canaries, key, issuer, taken)
                async with stack.http:
                    yield stack
        finally:
            fleet.forget_logs()


async def test_nothing_secret_is_written_counted_or_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_stack(tmp_path, monkeypatch) as stack:
        await what_goes_well(stack)
        await what_is_refused(stack)
        await what_is_no_http(stack)
        await what_another_version_kept(stack)
        await what_comes_while_the_store_is_away(stack)
        await what_the_collector_does_not_take(stack)
        stack.check()


async def what_goes_well(stack: Stack) -> None:
    canaries, jwt = stack.canaries, stack.kept("a JWT", stack.issuer.token("carol"))
    body = {
        "messages": [
            {"role": "system", "content": canaries.new("a system message")},
            {"role": "user", "content": canaries.new("a message")},
        ],
        "stop": [canaries.new("a stop string")],
    }
    headers = bearer(stack.key) | {"Idempotency-Key": canaries.new("an idempotency key")}
    name = (await stack.post("/v1/streams", 201, json=body, headers=headers)).json()["request_id"]
    token = (await stack.post(f"/v1/streams/{name}/token", 201)).json()["token"]
    canaries.watch("a stream token", token)
    query = {"token": token}
    async with asyncio.timeout(WAIT_S):
        read = asyncio.create_task(
            stack.http.get(f"/v1/streams/{name}", params=query, headers=STREAM)
        )
        while not read.done():
            view = (await stack.http.get(f"/v1/streams/{name}", headers=bearer(stack.key))).json()
            if seq := view["next_seq"] - 1:
                await stack.post(
                    f"/v1/streams/{name}/ack", 204, json={"seq": seq}, params=query, headers={}
                )
            await asyncio.sleep(0.05)
    answer = (await stack.http.get(f"/v1/streams/{name}", headers=bearer(stack.key))).json()
    assert answer["status"] == "done"
    text: str = answer["text"]
    for at in range(0, len(text) - SLICE_CHARS, SLICE_CHARS):
        # As text, and as JSON holds it.
        part = text[at : at + SLICE_CHARS]
        canaries.watch(f"the answer from {at} on", part)
        canaries.watch(f"the answer from {at} on, as JSON", json.dumps(part)[1:-1])
    asked = {"question": canaries.new("a question"), "ack": "none"}
    await stack.post("/v1/streams", 201, json=asked, headers=bearer(jwt))
    chat = {"model": "default", "messages": [{"role": "user", "content": canaries.new("a chat")}]}
    await stack.post("/v1/chat/completions", 200, json=chat)
    given = {"model": "default", "input": canaries.new("an input"), "background": True}
    given["instructions"] = canaries.new("instructions")
    await stack.post("/v1/responses", 200, json=given)


async def what_is_refused(stack: Stack) -> None:
    new, headers = stack.canaries.new, bearer(stack.key)
    expired = stack.kept("an expired JWT", stack.issuer.token(exp=int(time.time()) - 99))
    unknown = Issuer("ES256", "ES256")
    wrong = [
        bearer(stack.canaries.watch("a wrong key", apikeys.new_key())),
        bearer(expired),
        bearer(stack.kept("a JWT of an unknown key", unknown.token(number=1))),
        {"Authorization": f"Basic {new('a password')}"},
        {"Cookie": new("a cookie")},
    ]
    for credentials in wrong:
        await stack.post("/v1/streams", 401, json={"question": "a"}, headers=credentials)
    query = {"token": new("a wrong stream token")}
    url = f"/v1/streams/{'A' * 22}"
    assert (await stack.http.get(url, params=query, headers=STREAM)).status_code == 401
    for data, status in (
        (f'{{"question": "{new("bad JSON")}', 400),
        (json.dumps({"question": [new("a wrong type")]}), 400),
        (json.dumps({"question": "a", new("an unknown field"): 1}), 400),
        (json.dumps({"question": "\0" + new("an odd character"), "temperature": "hot"}), 400),
        (b"\xff" + new("no UTF-8").encode(), 400),
    ):
        kind = {"Content-Type": "application/json"}
        await stack.post("/v1/streams", status, content=data, headers=headers | kind)
        if isinstance(data, str):
            await stack.post("/v1/chat/completions", 400, content=data, headers=headers | kind)
            await stack.post("/v1/responses", 400, content=data, headers=headers | kind)
    with suppress(httpx.TransportError):  # it is answered before all of it was sent
        huge = {"question": new("a huge question") * 100_000}
        await stack.post("/v1/streams", 413, json=huge)
    await stack.post("/v1/streams", 415, content=new("plain text"))
    reused = headers | {"Idempotency-Key": new("a reused key")}
    await stack.post("/v1/streams", 201, json={"question": "a"}, headers=reused)
    await stack.post("/v1/streams", 422, json={"question": new("another")}, headers=reused)
    long = headers | {"Idempotency-Key": new("a long key") * 30}
    await stack.post("/v1/streams", 400, json={"question": "a"}, headers=long)
    await stack.post(f"{url}/ack", 404, json={"seq": 1})
    await stack.post(f"{url}/ack", 400, json={"seq": new("no seq")})
    paths = new("a path"), f"v1/{new('a call')}", f"web/{new('a file')}", f"docs?{new('a query')}"
    for path in paths:
        for method in ("GET", "PUT", "OPTIONS"):
            answer = await stack.http.request(method, f"/{path}", headers=headers)
            assert answer.status_code < 500
    odd = headers | {"Last-Event-ID": new("an event id"), "X-Forwarded-For": new("an address")}
    assert (await stack.http.get(url, headers=odd | STREAM)).status_code == 400


async def what_is_no_http(stack: Stack) -> None:
    new, port = stack.canaries.new, httpx.URL(stack.fleet.readers[0]).port
    post = "POST /v1/streams HTTP/1.1\r\nHost: a\r\n"
    trusted = f"{post}Authorization: Bearer {stack.key}\r\nContent-Type: application/json\r\n"
    for data in (
        f"{new('no request')}\r\n\r\n",
        f"GET /{new('a bad target')} HTTP/9.9\r\n\r\n",
        f"GET / HTTP/1.1\r\nno header {new('a bad header')}\r\n\r\n",
        f"{post}Content-Length: x{new('a bad length')}\r\n\r\n",
        f"{post}Transfer-Encoding: chunked\r\n\r\nzz{new('a bad chunk')}\r\n",
        f"{trusted}Content-Length: 999\r\n\r\n{new('half a body')}",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data.encode())
        writer.write_eof()
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()


async def what_another_version_kept(stack: Stack) -> None:
    """Bodies that the generator cannot read, or the edge."""
    new = stack.canaries.new
    asked = {"messages": [{"role": "user", "content": new("a kept question")}], "max_tokens": 1}
    wrong_content = {"messages": [{"role": "user", "content": [new("kept content")]}]}
    note = {"api": "responses", "instructions": [new("kept instructions")]}
    for body in (asked | {"later": new("a later field")}, wrong_content, asked | {"note": note}):
        name, store = secrets.token_urlsafe(16), stack.fleet.store
        request = NewRequest(
            request_id=name,
            subject="key:alice",
            body=json.dumps(body),
            fingerprint="",
            ack="none",
            window=0,
        )
        await store.do(Open(request, queue_limit=1000))
        async with asyncio.timeout(WAIT_S):
            while (view := await store.view(name)) is None or view.status not in ENDED:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        headers = bearer(stack.key)
        assert (await stack.http.get(f"/v1/streams/{name}", headers=headers)).status_code == 200
        for path in (f"responses/resp_{name}", f"chat/completions/chatcmpl-{name}"):
            await stack.http.get(f"/v1/{path}", headers=headers)


async def what_comes_while_the_store_is_away(stack: Stack) -> None:
    headers = bearer(stack.key)
    body = {"question": stack.canaries.new("a live question")}
    name = (await stack.post("/v1/streams", 201, json=body)).json()["request_id"]
    await stack.fleet.valkey.die()
    body = {"question": stack.canaries.new("a question without a store")}
    await stack.post("/v1/streams", 503, json=body)
    assert (await stack.http.get(f"/v1/streams/{name}", headers=headers)).status_code == 503
    await stack.post(f"/v1/streams/{name}/ack", 503, json={"seq": 1})
    await stack.fleet.valkey.restart()
    async with asyncio.timeout(WAIT_S):
        url = f"/v1/streams/{name}"
        while (await stack.http.get(url, headers=headers)).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def what_the_collector_does_not_take(stack: Stack) -> None:
    stack.collector.refuses = True
    await stack.post("/v1/streams", 201, json={"question": stack.canaries.new("a last question")})
    async with asyncio.timeout(WAIT_S):
        while not any("spans lost" in text for _, text in stack.written()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_stored_password_is_not_told_with_what_is_wrong_about_the_store():
    password = Canaries().new("the password of the store")
    for url in (f"valkey://lore:{password}@127.0.0.1:1", f"valkeys://lore:{password}@[::1"):
        _, said = await refusal(valkey_url=url, store_wait_s=0.1)
        assert said
        assert password not in said, url


async def test_a_password_in_an_address_of_keys_is_refused_and_not_told():
    password = Canaries().new("the password of the issuer")
    url = f"https://lore:{password}@issuer.example/keys"
    status, said = await refusal(**Issuer().settings, jwt_jwks=url)
    assert status == 2
    assert "LORE_JWT_JWKS" in said
    assert password not in said


def test_a_planted_leak_would_be_found():
    """The test of the test: half a log line is enough."""
    canaries = Canaries()
    word = canaries.new("a question")
    assert canaries.found_in(f'{{"event": "asked", "question": "why {word}?"}}') == {"a question"}
    assert not canaries.found_in(word[:-1])


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
