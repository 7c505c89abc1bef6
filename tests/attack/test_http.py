"""HTTP at the socket of a real edge: what RFC 9110 and RFC 9112 ask of a server."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.attack.cases import BODY, CASES, Case
from tests.attack.raw import Ended, Peer, chunked, peer, post, request
from tests.services.edge_harness import WAIT_S
from tests.services.edge_process import EdgeProcess, edge_process

PIECE_BYTES = 5  # not a divisor of much, so that each line is cut somewhere else

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def edge() -> AsyncIterator[EdgeProcess]:
    async with edge_process(allowed_hosts="") as running:
        yield running


async def check(one: Peer, case: Case, *, dripped: bool = False) -> None:
    """``dripped``: an error may be early, while the body still comes, and ends the connection."""
    assert case.statuses
    answer = None
    methods = case.methods or ("GET",) * len(case.statuses)
    for status, method in zip(case.statuses, methods, strict=True):
        answer = await one.answer(method)
        assert answer.status == status, answer
        assert answer.version == "HTTP/1.1"
        if status >= 400 and method != "HEAD":
            assert answer.error
    assert answer is not None
    early = dripped and answer.status >= 400 and "connection" in answer.headers
    if case.stays and not early:
        await one.send(request("GET", "/v1/streams/nothing"))
        assert (await one.answer()).status == 404, "out of step"
    else:
        assert answer.headers.get("connection") == "close"
        assert await one.ended()


@pytest.mark.rule("W1", "W3", "W5", "W6", "W7")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section}-{case.name}")
async def test_what_a_client_sends_is_answered_as_the_rfc_says(edge: EdgeProcess, case: Case):
    async with peer(edge.port) as one:
        await one.send(case.sent)
        await check(one, case)


@pytest.mark.rule("W1")
async def test_it_makes_no_difference_how_the_bytes_arrive(edge: EdgeProcess):
    """In pieces of a few bytes; some twenty cases at a time."""
    turns = asyncio.Semaphore(20)

    wrong: list[str] = []

    async def dripped(case: Case) -> None:
        async with turns, peer(edge.port) as one:
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(case.sent), PIECE_BYTES):
                    one.writer.write(case.sent[start : start + PIECE_BYTES])
                    await one.writer.drain()
                    await asyncio.sleep(0)
            try:
                await check(one, case, dripped=True)
            except (AssertionError, Ended) as error:
                wrong.append(f"{case.name}: {error}")

    async with asyncio.TaskGroup() as group:
        for case in CASES:
            group.create_task(dripped(case), name=case.name)
    assert wrong == []


async def test_a_client_that_expects_100_waits_for_it(edge: EdgeProcess):
    async with peer(edge.port) as one:
        await one.send(post("Expect: 100-continue", "Content-Length: 17", body=b""))
        assert (await one.head()).status == 100
        await one.send(BODY)
        assert (await one.answer()).status == 201


async def test_http_1_0_never_gets_100(edge: EdgeProcess):
    async with peer(edge.port) as one:
        await one.send(
            post("Expect: 100-continue", "Content-Length: 17", body=b"", version="HTTP/1.0")
        )
        await one.send(BODY)
        assert (await one.head()).status == 201


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Content-Length: 99999999",), 413),
        (("Content-Length: 17", "Content-Type: text/plain"), 415),
        (("Content-Length: 17", "Expect: a"), 417),
    ],
)
async def test_an_early_answer_comes_instead_of_100(
    edge: EdgeProcess, fields: tuple[str, ...], status: int
):
    kind = () if any("Content-Type" in f for f in fields) else ("Content-Type: application/json",)
    expects = () if any("Expect" in f for f in fields) else ("Expect: 100-continue",)
    async with peer(edge.port) as one:
        await one.send(request("POST", "/v1/streams", *kind, *expects, *fields))
        answer = await one.head()
        assert (answer.status, answer.headers["connection"]) == (status, "close")


@pytest.mark.rule("W8")
@pytest.mark.parametrize("size", [100_000, 3_000_000, 20_000_000])
async def test_an_early_answer_is_read_whatever_is_still_sent(edge: EdgeProcess, size: int):
    """A close while data comes would reset the connection, and take the answer along."""
    async with peer(edge.port) as one:
        one.writer.write(request("POST", "/v1/streams", f"Content-Length: {size}"))
        one.writer.write(b" " * (size - 1))
        answer = await one.answer()
        assert answer.status in (413, 415)
        assert answer.headers["connection"] == "close"
        await asyncio.wait_for(one.writer.drain(), WAIT_S)
        assert await one.ended()


@pytest.mark.rule("W1")
async def test_http_1_0_gets_a_body_that_ends_with_the_connection(edge: EdgeProcess):
    """It knows no chunked coding (RFC 9112 section 6.1)."""
    async with peer(edge.port) as one:
        await one.send(post("Accept: text/event-stream", version="HTTP/1.0"))
        head = await one.head()
        assert head.status == 200
        assert "transfer-encoding" not in head.headers
        assert head.headers["connection"] == "close"
        first = await one.read()
        assert first.startswith((b"retry:", b"event:", b":"))


@pytest.mark.rule("W9")
@pytest.mark.parametrize("count", [1, 3])
async def test_a_peer_that_has_ended_its_side_gets_what_it_asked_for(edge: EdgeProcess, count: int):
    async with peer(edge.port) as one:
        await one.send(post() * count)
        one.end()
        for _ in range(count):
            assert (await one.answer()).status == 201
        assert await one.ended()


@pytest.mark.parametrize(
    "sent",
    [b"GET / HT", request()[:-2], post()[:-1], post("Transfer-Encoding: chunked", body=b"5\r\nab")],
)
async def test_a_request_that_ends_in_the_middle_is_told_so(edge: EdgeProcess, sent: bytes):
    async with peer(edge.port) as one:
        await one.send(sent)
        one.end()
        answer = await one.answer()
        assert (answer.status, answer.error) == (400, "invalid_http")
        assert await one.ended()


async def test_a_peer_that_ends_without_a_word_gets_none(edge: EdgeProcess):
    async with peer(edge.port) as one:
        one.end()
        with pytest.raises(Ended):
            await one.answer()


async def test_the_host_of_the_target_counts_and_not_the_field():
    """Else LORE_ALLOWED_HOSTS could be passed by (RFC 9112 section 3.2.2)."""
    async with edge_process(allowed_hosts="a.example") as edge:
        for target, host, status in [
            ("/v1/models", "a.example", 200),
            ("/v1/models", "b.example", 403),
            ("http://a.example/v1/models", "b.example", 200),
            ("http://b.example/v1/models", "a.example", 403),
        ]:
            async with peer(edge.port) as one:
                await one.send(request(target=target, host=host))
                assert (await one.answer()).status == status, (target, host)


@pytest.mark.rule("W7")
async def test_trailers_are_no_fields_of_the_request(edge: EdgeProcess):
    """An Idempotency-Key in a trailer makes no two calls one."""
    sent = post(
        "Transfer-Encoding: chunked", body=chunked(BODY, trailers=b"Idempotency-Key: a\r\n")
    )
    async with peer(edge.port) as one:
        ids: set[str] = set()
        for _ in range(2):
            await one.send(sent)
            ids.add((await one.answer()).headers["x-request-id"])
        assert len(ids) == 2


@pytest.mark.rule("W6")
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
async def test_curl_with_http2_gets_its_answer(edge: EdgeProcess):
    url = f"http://127.0.0.1:{edge.port}/v1/streams"
    words = ["-sS", "--http2", "--noproxy", "*", "-H", "Content-Type: application/json"]
    words += ["-d", BODY.decode(), "-w", "%{http_code}", "-o", "/dev/null", url, "--next"]
    words += ["-sS", "--noproxy", "*", "-w", " %{http_code}", "-o", "/dev/null", f"{url}/nothing"]
    done = await asyncio.to_thread(_ran, ["curl", *words])
    assert done == "201 404"


JAVA = Path(__file__).with_name("Ask.java")


@pytest.mark.rule("W6")
@pytest.mark.skipif(shutil.which("java") is None, reason="no JDK")
async def test_the_jdk_s_client_gets_its_answers(edge: EdgeProcess):
    """LangChain4j and Spring AI use it; it asks for h2c with each first call."""
    done = await asyncio.to_thread(_ran, ["java", str(JAVA), f"http://127.0.0.1:{edge.port}"])
    assert done.split() == ["201", "HTTP_1_1", "201", "HTTP_1_1", "404", "HTTP_1_1"]


def _ran(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=6 * WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
