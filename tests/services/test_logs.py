"""Lines that say which request they are about, and not more of them than somebody reads."""

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from lore.protocol.lifecycle import Status
from tests.faults.fleet import Fleet
from tests.services.edge_harness import (
    WAIT_S,
    FaultyStore,
    ask,
    running_edge,
    stream,
    until,
)
from tests.services.generator_harness import Generator, Reader
from tests.services.openai_harness import sdk
from tests.services.tracing_harness import CALLER, TRACE_ID, kept_spans

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def test_a_healthy_request_is_silent_at_the_default_level(store: FaultyStore) -> None:
    async with running_edge(store) as edge, Generator(store, "g1") as generator:
        await until(lambda: generator.service.ready() is None)
        with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
            name = await ask(edge)
            reading = await stream(edge, name)
            await (await Reader(store, name).follow()).read_to_end()
            await reading.events()
            async with sdk(edge.url) as client:
                await client.chat.completions.create(
                    model="default", messages=[{"role": "user", "content": "What is a list?"}]
                )
    assert {line["log_level"] for line in lines} == {"debug"}
    said = {line["event"] for line in lines if line.get("request_id") == name}
    assert said == {
        *("request accepted", "request claimed", "request done"),
        *("stream opened", "stream ended"),
    }


async def test_every_line_about_a_request_names_it_and_its_trace(store: FaultyStore) -> None:
    with kept_spans(), capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        async with running_edge(store) as edge:
            async with Generator(store, "g1", lease_s=0.3) as lost, edge.client() as client:
                body = {"question": "What is a list?", "window": 4}
                asked = await client.post("/v1/streams", json=body, headers={"traceparent": CALLER})
                name = asked.json()["request_id"]
                reader = await Reader(store, name).follow()
                await reader.until_status(Status.PAUSED)
                reading = await stream(edge, name)
                await reading.chunks(1)
                await lost.crash()
            async with Generator(store, "g2", lease_s=0.3):
                await reader.read_to_end()
                await reading.events()
    of_requests = [
        line for line in lines if "request" in line["event"] or "stream" in line["event"]
    ]
    assert {"request taken over", "request done", "stream ended"} <= {
        line["event"] for line in of_requests
    }
    for line in of_requests:
        assert (line.get("request_id"), line.get("trace_id")) == (name, TRACE_ID), line


async def test_one_request_s_lines_do_not_name_the_one_before_it(store: FaultyStore) -> None:
    """A connection is used again, and so is its task's context."""
    bound: list[dict[str, Any]] = []

    async def broken(command: object) -> None:
        bound.append(structlog.contextvars.get_contextvars())
        raise RuntimeError

    async with running_edge(store) as edge, edge.client() as client:
        first = await ask(edge)
        await client.get(f"/v1/streams/{first}")
        store.do = broken  # type: ignore[method-assign,assignment]
        await client.delete(f"/v1/streams/{first}")
    assert len(bound) == 1
    assert "request_id" not in bound[0]


async def test_what_a_crash_in_a_call_logs_has_no_text_of_the_call(
    store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    """uvicorn logs it, with its trace."""

    async def broken(command: object) -> None:
        raise RuntimeError("a bug")

    store.do = broken  # type: ignore[method-assign,assignment]
    async with running_edge(store) as edge, edge.client() as client:
        answer = await client.post("/v1/streams", json={"question": "canary"})
    assert answer.status_code == 500
    (record,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    told = logging.Formatter().format(record)
    assert "a bug" in told
    assert "canary" not in told


async def test_no_http_at_all_is_no_warning_and_every_line_is_json() -> None:
    """What strangers send to the port, an edge cannot mend."""
    fleet = Fleet(generators=1, edges=1)
    async with fleet:
        port = httpx.URL(fleet.readers[0]).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"no request\r\n\r\n")
        assert b" 501 " in await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        async with httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as http:
            url = f"{fleet.readers[0]}/v1/responses"
            asked = {"model": "default", "input": "What is a list?", "max_output_tokens": 16}
            assert (await http.post(url, json=asked)).status_code == 200
        for part in [*fleet.edges, *fleet.generators]:
            lines = [json.loads(line) for line in part.log.read_text().splitlines()]
            assert {line["level"] for line in lines} == {"info"}
            assert not [line for line in lines if "request_id" in line]
    fleet.forget_logs()


CALL = re.compile(r"\b_?log\.(?:debug|info|warning|error|exception)\(\s*(?:\"([^\"]*)\"|(\w+))")
PHRASE = re.compile(r"[A-Za-z]+(,? [A-Za-z]+){0,6}")


def test_each_event_is_a_short_phrase_that_its_values_do_not_change() -> None:
    calls = [
        call
        for folder in ("core", "services")
        for path in (ROOT / folder).rglob("*.py")
        for call in CALL.findall(path.read_text())
    ]
    assert len(calls) > 50
    assert [made for _, made in calls if made] == []
    assert sorted(event for event, _ in calls if not PHRASE.fullmatch(event)) == []
