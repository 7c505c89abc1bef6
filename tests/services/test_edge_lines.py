"""An event's line is one line to every reader, whatever an answer holds.

httpx and requests split at all that Unicode calls a line end; an event that is cut there is no
JSON any more.
"""

import asyncio
import json

import httpx
import pytest

from tests.services.edge_harness import WAIT_S, FaultyStore, Writer, running_edge, until

LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
TEXT = "".join(f"a{end}b" for end in LINE_ENDS)
CHAT = {"model": "m", "messages": [{"role": "user", "content": TEXT}], "stream": True}
DIALECTS = {
    "native": ("/v1/streams", {"question": TEXT}),
    "chat": ("/v1/chat/completions", CHAT),
    "responses": ("/v1/responses", {"model": "m", "input": TEXT, "stream": True}),
}


def test_python_knows_no_other_line_ends() -> None:
    every = (chr(code) for code in range(0x110000))
    assert "".join(c for c in every if len(f"a{c}b".splitlines()) > 1) == "".join(sorted(LINE_ENDS))


@pytest.mark.rule("E2")
@pytest.mark.parametrize(("path", "body"), DIALECTS.values(), ids=DIALECTS.keys())
async def test_every_line_of_a_stream_is_a_field_with_all_of_its_json(
    path: str, body: dict[str, object]
) -> None:
    store = FaultyStore()
    headers = {"Accept": "text/event-stream"}
    async with running_edge(store, model="m") as edge, httpx.AsyncClient() as client:
        async with asyncio.timeout(WAIT_S):
            call = client.stream("POST", edge.url + path, json=body, headers=headers)
            async with call as answer:
                assert answer.status_code in (200, 201)
                await until(lambda: store.state._records)
                (request_id,) = store.state._records
                writer = Writer(store, request_id)
                await writer.claim()
                await writer.write(TEXT, TEXT)
                await writer.finish()
                lines = [line async for line in answer.aiter_lines()]
    said = ""
    for line in lines:
        field, _, value = line.partition(":")
        assert field in ("", "id", "event", "data", "retry"), line
        if field == "data" and value.strip() != "[DONE]":
            data = json.loads(value)
            choice = (data.get("choices") or [{}])[0].get("delta", {}).get("content") or ""
            delta = data.get("delta", "") if data.get("type", "").endswith("text.delta") else ""
            said += data.get("text", "") if path == "/v1/streams" else choice + delta
    assert said == TEXT * 2
