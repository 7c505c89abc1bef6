"""What goes over the wire when a stream is cut, resumed, acknowledged and ended: every byte.

Two real edges on sockets, with the store in memory and a generator that is told what to write.
Ids, times and ports are other ones each time, so names stand for them.
"""

import asyncio
import json
import re
from typing import Self

from lore.protocol.lifecycle import Status
from lore.store.memory import MemoryStore
from tests.services.edge_harness import WAIT_S, RunningEdge, Writer, running_edge

CHUNKS = ("A stream ", "is text, ", "piece ", "by piece.")


class Wire:
    """A connection to an edge, and what was said on it."""

    def __init__(self, edge: RunningEdge, name: str) -> None:
        self._edge = edge
        self._name = name
        self.said: list[str] = []

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._edge.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: str = "", **headers: str) -> None:
        fields = {"Host": self._name} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        if body:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items())]
        request = "\r\n".join([*lines, "", body])
        self._writer.write(request.encode())
        self._note("> ", request)

    async def hear(self, until: str) -> str:
        """Up to what ends with this. Raises TimeoutError."""
        async with asyncio.timeout(WAIT_S):
            text = (await self._reader.readuntil(until.encode())).decode()
        self._note("< ", text)
        return text

    async def answer(self) -> str:
        """A whole answer with its length. Returns the body."""
        head = await self.hear("\r\n\r\n")
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = (await self._reader.readexactly(int(length[1]) if length else 0)).decode()
        if body:
            self._note("< ", body)
        return body

    def _note(self, mark: str, text: str) -> None:
        lines = text.removesuffix("\n").removesuffix("\r").split("\n")
        self.said += [f"{mark}{line.removesuffix(chr(13))}".rstrip() for line in lines]


async def transcript() -> list[tuple[str, list[str]]]:
    """Scenes, each with its lines: ``>`` is the client, ``<`` an edge. Lines end with CR LF in
    HTTP's own parts, and with LF in events."""
    store = MemoryStore()
    async with running_edge(store) as a, running_edge(store, edge_id="edge-2") as b:
        scenes, masks = await _play(store, a, b)
    return [(title, [_masked(line, masks) for line in lines]) for title, lines in scenes]


async def _play(
    store: MemoryStore, a: RunningEdge, b: RunningEdge
) -> tuple[list[tuple[str, list[str]]], dict[str, str]]:
    async with Wire(a, "edge-1") as asking:
        question = json.dumps({"question": "What is a stream?"})
        await asking.ask("POST", "/v1/streams", question, Idempotency_Key="a-random-key")
        view = json.loads(await asking.answer())
    one = f"/v1/streams/{view['request_id']}"
    writer = Writer(store, view["request_id"])
    wants = {"Accept": "text/event-stream"}
    async with Wire(a, "edge-1") as cut:
        await cut.ask("GET", f"{one}?after=0&log={view['log_id']}", **wants)
        await cut.hear("\n\n\r\n")
        await writer.claim()
        await cut.hear("\n\n\r\n")
        await writer.write(CHUNKS[0])
        await cut.hear("\n\n\r\n")
        await writer.write(CHUNKS[1])
        await cut.hear(CHUNKS[1][:4])
    async with Wire(b, "edge-2") as resumed, Wire(b, "edge-2") as acks:
        await resumed.ask("GET", f"{one}?log={view['log_id']}", **wants, Last_Event_ID="1")
        await resumed.hear("\n\n\r\n")  # the opening, and chunk 2 with it
        await acks.ask("POST", f"{one}/ack", '{"seq": 2}')
        await acks.answer()
        for text in CHUNKS[2:]:
            await writer.write(text)
            await resumed.hear("\n\n\r\n")
        await writer.finish(Status.DONE)
        await resumed.hear("\r\n0\r\n\r\n")
    async with Wire(b, "edge-2") as last:
        await last.ask("POST", f"{one}/ack", '{"seq": 4}')
        await last.answer()
    scenes = [
        ("Ask, at the first edge", asking.said),
        ("Read there, until the connection is cut in the middle of chunk 2", cut.said),
        ("Read on at the other edge, after chunk 1, to the end", resumed.said),
        ("Meanwhile, acknowledge", acks.said),
        ("Acknowledge the end", last.said),
    ]
    return scenes, {view["request_id"]: "REQUEST", view["log_id"]: "LOG"}


def _masked(line: str, masks: dict[str, str]) -> str:
    for what, name in masks.items():
        line = line.replace(what, name)
    line = re.sub(r"(?i)^(< date: ).*", r"\1…", line)
    return re.sub(r'("created_at": )"[^"]*"', r'\1"…"', line)
