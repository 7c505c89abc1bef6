"""What a call says in its body and its fields, against a real edge: the right status, and an error
that names what is wrong."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attack.bodies import BODIES, CHAT, SCHEMAS, STREAMS, Body
from tests.attack.raw import peer, post, request
from tests.services.edge_process import EdgeProcess, edge_process

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def edge() -> AsyncIterator[EdgeProcess]:
    async with edge_process(allowed_hosts="", model="m") as running:
        yield running


def call(path: str, body: bytes, *fields: str) -> bytes:
    kind = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return request("POST", path, *kind, *fields, body=body)


@pytest.mark.rule("W4")
@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.name)
async def test_a_body_that_is_wrong_is_refused_with_what_is_wrong(edge: EdgeProcess, case: Body):
    async with peer(edge.port) as one:
        for _ in range(2):  # and the connection goes on
            await one.send(call(case.path, case.sent))
            answer = await one.answer()
            assert (answer.status, answer.error) == (400, case.code), answer.body
            error = json.loads(answer.body)["error"]
            assert case.says in error["message"]
            assert ("type" in error) is (case.path != STREAMS), "in the form of its API"


@pytest.mark.rule("W4")
async def test_nothing_is_created_for_a_schema_that_is_refused(edge: EdgeProcess):
    async with peer(edge.port) as one:
        await one.send(request(target=STREAMS))
        before = await one.answer()
        for case in SCHEMAS:
            await one.send(call(case.path, case.sent))
            assert (await one.answer()).status == 400
        await one.send(request(target=STREAMS))
        assert (await one.answer()).body == before.body


@pytest.mark.parametrize("path", [STREAMS, CHAT])
async def test_a_key_of_idempotency_is_a_key(edge: EdgeProcess, path: str):
    """An empty one makes no two calls one, and its sender believes that it does."""
    async with peer(edge.port) as one:
        for key in ("", "   ", "a" * 256, "a" * 10_000):
            asked = b'{"model": "m", "messages": [{"role": "user", "content": "a"}]}'
            body = asked if path == CHAT else b'{"question": "a"}'
            await one.send(call(path, body, f"Idempotency-Key: {key}"))
            answer = await one.answer()
            assert answer.status == 400
            assert b"Idempotency-Key" in answer.body


async def test_a_timeout_at_openais_address_has_openais_form():
    async with edge_process(body_timeout_s=0.3) as edge, peer(edge.port) as one:
        await one.send(call(CHAT, b"{}")[:-1])
        answer = await one.answer()
        assert (answer.status, answer.error) == (408, "request_timeout")
        assert json.loads(answer.body)["error"]["type"]


@pytest.mark.rule("W2")
@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream", True),
        ("text/event-stream; charset=utf-8", True),
        ("text/event-stream;q=0.5", True),
        ("application/json, text/event-stream", True),
        ("application/json;q=0.1,text/event-stream;q=0.2", True),
        ("text/event-stream;q=abc", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream; q=0.000, */*", False),
        ("application/json, text/event-stream;q=0.1", False),
        ("text/event-streams", False),
        ("x/text/event-stream", False),
        ('a/b;c="text/event-stream"', False),
        ("text/*", False),
        ("*/*", False),
        ("image/png", False),
        (";;,q=", False),
        ("", False),
    ],
)
async def test_a_stream_comes_to_whom_it_is_acceptable(
    edge: EdgeProcess, accept: str, streams: bool
):
    """RFC 9110 section 12.5.1."""
    async with peer(edge.port) as one:
        await one.send(post(f"Accept: {accept}"))
        head = await one.head()
        assert head.status == (200 if streams else 201)
        assert head.headers["content-type"].startswith("text/event-stream") is streams
