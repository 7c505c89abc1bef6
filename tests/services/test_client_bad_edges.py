"""The Python reader comes to an end with edges that answer as none should, and says so."""

import asyncio

import pytest

from lore_client import LoreError, Reader, ReaderConfig, source
from lore_client import calls as calls_module
from tests.services.bad_servers import DRIP_S, SLOW, WRONG, Answer, sending, serving
from tests.services.edge_harness import WAIT_S

ID = "A" * 22
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CONFIG = ReaderConfig(
    silence_s=0.1,
    call_timeout_s=0.1,
    patience_s=0.1,
    stream_patience_s=0.1,
    retry_s=0.02,
    last_ack_s=0.1,
)
CASES = SLOW | WRONG
STREAMS: dict[str, Answer] = {
    "an event in drips": sending(EVENTS + b"data: ", pause_s=DRIP_S, again=b"x"),
    "an event without end": sending(EVENTS + b"data: ", again=b"x" * 65_536),
    "lines without end": sending(EVENTS, again=b"data: x\n" * 8192),
    "an event that is no JSON": sending(EVENTS + b"id: 1\ndata: x\n\n"),
    "an event of another kind": sending(EVENTS + b'event: end\ndata: {"status": 7}\n\n'),
    "an end before its text": sending(
        EVENTS + b'event: end\ndata: {"status": "done", "last_seq": 9}\n\n'
    ),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "MAX_ANSWER_BYTES", 262_144)
    monkeypatch.setattr(source, "MAX_EVENT_CHARS", 262_144)
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("answer", CASES.values(), ids=CASES.keys())
async def test_a_call_raises_what_the_client_raises_by_design(answer: Answer):
    async with serving(answer) as server, Reader([server.url], config=CONFIG) as reader:
        async with asyncio.timeout(WAIT_S):
            for call in (reader.create("a"), reader.view(ID), reader.revive(ID)):
                with pytest.raises(LoreError):
                    await call


@pytest.mark.parametrize("answer", (CASES | STREAMS).values(), ids=(CASES | STREAMS).keys())
async def test_a_stream_raises_what_the_client_raises_by_design(answer: Answer):
    async with serving(answer) as server, Reader([server.url], config=CONFIG) as reader:
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(LoreError):
                async for _ in reader.stream(ID):
                    pass
