"""Two edges that misbehave on purpose: what a real edge on a healthy machine never sends.

They speak PROTOCOL.md from a scripted answer, hold all requests in one process, and lose,
double, swap and cut as the script says.
"""

import asyncio
import json
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

WEB = Path(__file__).parents[2] / "services" / "edge" / "lore_edge" / "web"
RTO_S = 0.2
WINDOW = 32


@dataclass
class Script:
    """One answer and what happens to it on its way. Faults name the seq they strike, once each."""

    chunks: list[str]
    every_s: float = 0.01
    lose: set[int] = field(default_factory=set)
    double: set[int] = field(default_factory=set)
    swap: set[int] = field(default_factory=set)
    """The chunk leaves after the one that follows it."""
    cut_after: set[int] = field(default_factory=set)
    drain_after: set[int] = field(default_factory=set)
    """The edge says that it shuts down, and ends the response."""
    lose_history_after: int | None = None
    reap_after: int | None = None
    finish_reason: str = "stop"


@dataclass
class Answer:
    request_id: str
    script: Script
    messages: list[dict[str, str]] = field(default_factory=list)
    generated: int = 0
    acked: int = 0
    acks: list[int] = field(default_factory=list)
    status: str = "queued"
    retransmits: int = 0
    opened: list[tuple[str, int]] = field(default_factory=list)
    """Each connection: the edge, and the seq after which it started."""
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def text(self) -> str:
        return "".join(self.script.chunks[: self.generated])

    async def generate(self) -> None:
        """Write on until the end, a full window apart; a request can be reaped once."""
        while self.generated < len(self.script.chunks):
            if self.generated == self.script.reap_after:
                self.script.reap_after = None
                await self.become("reaped")
                return
            if self.generated - self.acked >= WINDOW:
                await self.become("paused")
                async with self.moved:
                    await self.moved.wait_for(lambda: self.generated - self.acked < WINDOW // 2)
            await asyncio.sleep(self.script.every_s)  # a model's pace
            self.generated += 1
            await self.become("generating")
        await self.become("done")

    async def take_ack(self, seq: int) -> None:
        async with self.moved:
            self.acks.append(seq)
            self.acked = max(self.acked, seq)
            self.moved.notify_all()

    async def is_quiet(self) -> bool:
        """Wait for news; True when none came within the RTO."""
        async with self.moved:
            try:
                await asyncio.wait_for(self.moved.wait(), RTO_S)
            except TimeoutError:
                return True
        return False

    async def become(self, status: str) -> None:
        async with self.moved:
            self.status = status
            self.moved.notify_all()

    def view(self, edge: str) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "status": self.status,
            "text": self.text,
            "log_id": "log1",
            "next_seq": self.generated + 1,
            "acked_seq": self.acked,
            "generated_tokens": self.generated,
            "acked_tokens": self.acked,
            "window": WINDOW,
            "prompt_tokens": 7,
            "finish_reason": self.script.finish_reason if self.status == "done" else None,
            "error": None,
            "stream_url": f"/v1/streams/{self.request_id}?log=log1",
            "edge": edge,
        }


def event(data: dict[str, Any], name: str = "", seq: int | None = None) -> str:
    lines = [f"event: {name}"] if name else []
    lines += [f"id: {seq}"] if seq else []
    return "\n".join([*lines, f"data: {json.dumps(data)}", "", ""])


class Delivery:
    """One connection: what of an answer leaves the edge on it, and in which order."""

    def __init__(self, answer: Answer, after: int, edge: str) -> None:
        self.answer = answer
        self.script = answer.script
        self.sent = after
        self.edge = edge
        self.held = ""

    async def stream(self) -> AsyncIterator[str]:
        answer, told = self.answer, self.answer.status
        yield "retry: 200\n\n" + self.state("open")
        while not (told == "done" and answer.acked >= self.sent == answer.generated):
            while self.sent < answer.generated:
                if out := self.next():
                    yield out
                if self.strikes(self.script.cut_after):
                    return
                if self.strikes(self.script.drain_after):
                    yield self.state("drain")
                    return
            if answer.status != told:
                told = answer.status
                yield self.state(told if told in ("paused", "reaped") else "resumed")
            elif await answer.is_quiet() and answer.acked < self.sent == answer.generated:
                answer.retransmits += 1
                yield self.chunk(answer.acked + 1)
        end = {"status": told, "finish_reason": self.script.finish_reason, "error": None}
        yield event({**end, "last_seq": answer.generated, "usage": None}, "end")

    def next(self) -> str:
        self.sent += 1
        out, self.held = self.chunk(self.sent) + self.held, ""
        if self.strikes(self.script.swap):
            out, self.held = "", out
        if self.strikes(self.script.lose):
            out = ""
        if self.strikes(self.script.double):
            out += self.chunk(self.sent)
        return out

    def strikes(self, fault: set[int]) -> bool:
        hit = self.sent in fault
        fault.discard(self.sent)
        return hit

    def chunk(self, seq: int) -> str:
        return event({"seq": seq, "text": self.script.chunks[seq - 1], "tokens": seq}, seq=seq)

    def state(self, reason: str) -> str:
        rto = {"rto_ms": RTO_S * 1000, "retransmits": self.answer.retransmits}
        return event({"reason": reason, **self.answer.view(self.edge), **rto}, "state")


class FakeEdges:
    """What both edges share, and the control of the test over them."""

    def __init__(self) -> None:
        self.next_script = Script([])
        self.answers: dict[str, Answer] = {}
        self.urls: list[str] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, answer: Answer) -> None:
        task = asyncio.create_task(answer.generate())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Edge:
    def __init__(self, name: str, edges: FakeEdges) -> None:
        self.name = name
        self.edges = edges

    def app(self) -> Starlette:
        one = "/v1/streams/{id}"
        routes = [
            Route("/", self.page),
            Route("/web/config.json", self.config),
            Mount("/web", StaticFiles(directory=WEB, follow_symlink=True)),
            Route("/v1/streams", self.create, methods=["POST"]),
            Route("/v1/streams", self.listed, methods=["GET"]),
            Route(one, self.read),
            Route(one + "/messages", self.messages),
            Route(one + "/ack", self.ack, methods=["POST"]),
            Route(one + "/revive", self.revive, methods=["POST"]),
        ]
        everyone = Middleware(
            CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"]
        )
        return Starlette(routes=routes, middleware=[everyone])

    async def page(self, _: Request) -> Response:
        policy = {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "font-src": "'self'",
            "img-src": "'self'",
            "connect-src": " ".join(["'self'", *self.edges.urls]),
        }
        headers = {"Content-Security-Policy": "; ".join(" ".join(rule) for rule in policy.items())}
        return FileResponse(WEB / "index.html", headers=headers)

    async def config(self, _: Request) -> Response:
        return JSONResponse({"edges": self.edges.urls, "edge": self.name, "model": "scripted"})

    async def listed(self, _: Request) -> Response:
        return JSONResponse({"streams": [a.view(self.name) for a in self.edges.answers.values()]})

    async def messages(self, request: Request) -> Response:
        answer = self.edges.answers.get(request.path_params["id"])
        if answer is None:
            return refusal(404, "not_found", "There is no such request.")
        return JSONResponse({"messages": answer.messages})

    async def create(self, request: Request) -> Response:
        asked = await request.json()
        question = {"role": "user", "content": asked["question"]}
        messages = [*asked.get("messages", []), question]
        answer = Answer(secrets.token_urlsafe(16), self.edges.next_script, messages)
        self.edges.answers[answer.request_id] = answer
        self.edges.start(answer)
        return JSONResponse(answer.view(self.name), status_code=201)

    async def read(self, request: Request) -> Response:
        answer = self.edges.answers.get(request.path_params["id"])
        if answer is None:
            return refusal(404, "not_found", "There is no such request.")
        if "text/event-stream" not in request.headers["accept"]:
            return JSONResponse(answer.view(self.name))
        position = request.headers.get("last-event-id") or request.query_params["after"]
        after = int(position.split(":")[0])
        answer.opened.append((self.name, after))
        lost = answer.script.lose_history_after
        if lost is not None and after > lost:
            return refusal(410, "history_lost", "The log was forked before that seq.")
        stream = Delivery(answer, after, self.name).stream()
        return StreamingResponse(stream, media_type="text/event-stream")

    async def ack(self, request: Request) -> Response:
        answer = self.edges.answers[request.path_params["id"]]
        seq = (await request.json())["seq"]
        if seq > answer.generated:
            return refusal(409, "ack_ahead_of_log", "That seq is not in the log.")
        await answer.take_ack(seq)
        return Response(status_code=204)

    async def revive(self, request: Request) -> Response:
        answer = self.edges.answers[request.path_params["id"]]
        self.edges.start(answer)
        return JSONResponse(answer.view(self.name), status_code=202)


def refusal(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)


@contextmanager
def fake_edges() -> Iterator[FakeEdges]:
    """Both edges, serving in a thread of their own until the block ends."""
    edges = FakeEdges()
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    edges.urls = [f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]
    apps = [Edge(f"edge-{n}", edges).app() for n in range(2)]
    servers = [
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        for app in apps
    ]

    async def serve() -> None:
        pairs = zip(servers, sockets, strict=True)
        await asyncio.gather(*(server.serve(sockets=[sock]) for server, sock in pairs))

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        yield edges
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(timeout=10)
