"""Two edges that misbehave on purpose: what a real edge on a healthy machine never sends.

They speak PROTOCOL.md from a scripted answer, hold all requests in one process, and lose,
double, swap and cut as the script says. Run as a program, they serve the page for a look.
"""

import asyncio
import json
import secrets
import socket
import threading
from collections.abc import AsyncIterator
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
    lose_history_after: int | None = None
    reap_after: int | None = None


@dataclass
class Answer:
    request_id: str
    script: Script
    generated: int = 0
    acked: int = 0
    acks: list[int] = field(default_factory=list)
    status: str = "queued"
    retransmits: int = 0
    opened: list[dict[str, Any]] = field(default_factory=list)
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def text(self) -> str:
        return "".join(self.script.chunks[: self.generated])

    async def generate(self) -> None:
        for _ in self.script.chunks[self.generated :]:
            if self.status == "cancelled":
                return
            if self.generated == self.script.reap_after:
                self.script.reap_after = None
                return await self.become("reaped")
            if self.generated - self.acked >= WINDOW:
                await self.become("paused")
                async with self.moved:
                    await self.moved.wait_for(lambda: self.generated - self.acked < WINDOW // 2)
            await asyncio.sleep(self.script.every_s)
            self.generated += 1
            await self.become("generating")
        await self.become("done")

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
            "finish_reason": "stop" if self.status == "done" else None,
            "error": None,
            "stream_url": f"/v1/streams/{self.request_id}?log=log1",
            "edge": edge,
        }


def event(data: dict[str, Any], name: str = "", id_: str = "") -> str:
    lines = [f"event: {name}"] if name else []
    lines += [f"id: {id_}"] if id_ else []
    return "\n".join([*lines, f"data: {json.dumps(data)}", "", ""])


class FakeEdges:
    def __init__(self) -> None:
        self.next_script: Script | None = None
        self.answers: dict[str, Answer] = {}
        self.by_key: dict[str, str] = {}
        self.urls: list[str] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def app(self, edge: str) -> Starlette:
        async def create(request: Request) -> Response:
            key = request.headers["Idempotency-Key"]
            if key not in self.by_key:
                answer = Answer(secrets.token_urlsafe(16), self.next_script or Script(DEMO, 0.05))
                self.by_key[key] = answer.request_id
                self.answers[answer.request_id] = answer
                self.start(answer)
            view = self.answers[self.by_key[key]].view(edge)
            return JSONResponse(view, status_code=201)

        async def read(request: Request) -> Response:
            answer = self.answers.get(request.path_params["id"])
            if answer is None:
                return refusal(404, "not_found", "There is no such request.")
            if "text/event-stream" not in request.headers["accept"]:
                return JSONResponse(answer.view(edge))
            position = request.headers.get("last-event-id") or request.query_params["after"]
            after = int(position.split(":")[0])
            answer.opened.append({"edge": edge, "after": after})
            lost = answer.script.lose_history_after
            if lost is not None and after > lost:
                return refusal(410, "history_lost", "The log was forked before that seq.")
            if answer.status in ("done", "cancelled") and after >= answer.generated:
                return Response(status_code=204)
            headers = {"Cache-Control": "no-store"}
            stream = self.stream(answer, after, edge)
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

        async def ack(request: Request) -> Response:
            answer = self.answers[request.path_params["id"]]
            seq = (await request.json())["seq"]
            if seq > answer.generated:
                return refusal(409, "ack_ahead_of_log", "That seq is not in the log.")
            answer.acks.append(seq)
            async with answer.moved:
                answer.acked = max(answer.acked, seq)
                answer.moved.notify_all()
            return Response(status_code=204)

        async def revive(request: Request) -> Response:
            answer = self.answers[request.path_params["id"]]
            self.start(answer)
            return JSONResponse(answer.view(edge), status_code=202)

        async def cancel(request: Request) -> Response:
            await self.answers[request.path_params["id"]].become("cancelled")
            return Response(status_code=204)

        async def config(_: Request) -> Response:
            return JSONResponse({"edges": self.urls, "edge": edge, "model": "scripted"})

        async def page(_: Request) -> Response:
            connect = "connect-src 'self' " + " ".join(self.urls)
            policy = f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; {connect}"
            headers = {"Content-Security-Policy": policy + "; font-src 'self'; base-uri 'none'"}
            return FileResponse(WEB / "index.html", headers=headers)

        one = "/v1/streams/{id}"
        routes = [
            Route("/", page),
            Route("/web/config.json", config),
            Mount("/web", StaticFiles(directory=WEB)),
            Route("/v1/streams", create, methods=["POST"]),
            Route(one, read),
            Route(one, cancel, methods=["DELETE"]),
            Route(one + "/ack", ack, methods=["POST"]),
            Route(one + "/revive", revive, methods=["POST"]),
        ]
        any_origin = Middleware(
            CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"]
        )
        return Starlette(routes=routes, middleware=[any_origin])

    def start(self, answer: Answer) -> None:
        task = asyncio.create_task(answer.generate())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def stream(self, answer: Answer, after: int, edge: str) -> AsyncIterator[str]:
        script, sent, held, told = answer.script, after, "", answer.status

        def state(reason: str) -> str:
            view = {**answer.view(edge), "rto_ms": RTO_S * 1000, "retransmits": answer.retransmits}
            return event({"reason": reason, **view}, "state")

        def chunk(seq: int) -> str:
            return event({"seq": seq, "text": script.chunks[seq - 1]}, id_=str(seq))

        yield "retry: 200\n\n" + state("open")
        while True:
            while sent < answer.generated:
                sent += 1
                out, held = chunk(sent) + held, ""
                if sent in script.swap:
                    script.swap.remove(sent)
                    out, held = "", out
                if sent in script.lose:
                    script.lose.remove(sent)
                    out = ""
                if sent in script.double:
                    out += chunk(sent)
                if out:
                    yield out
                if sent in script.cut_after:
                    script.cut_after.remove(sent)
                    return
            if answer.status != told:
                told = answer.status
                yield state({"paused": "paused", "reaped": "reaped"}.get(told, "resumed"))
            finished = told in ("done", "cancelled")
            if finished and answer.acked >= min(sent, answer.generated):
                break
            if sent == answer.generated and answer.status == told and await quiet(answer, sent):
                if answer.acked < sent:
                    answer.retransmits += 1
                    yield chunk(answer.acked + 1)
                elif finished:
                    break
        usage = {"prompt_tokens": 7, "completion_tokens": answer.generated}
        reason = "stop" if told == "done" else "cancelled"
        end = {"status": told, "finish_reason": reason, "error": None, "usage": usage}
        yield event({**end, "last_seq": answer.generated}, "end")


async def quiet(answer: Answer, sent: int) -> bool:
    """Wait for news of the answer; True when none came within the RTO."""
    async with answer.moved:
        try:
            await asyncio.wait_for(answer.moved.wait(), RTO_S)
        except TimeoutError:
            return answer.generated == sent
    return False


def refusal(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)


@contextmanager
def fake_edges(ports: tuple[int, int] = (0, 0)):
    """Both edges, serving in a thread of their own until the block ends."""
    edges = FakeEdges()
    sockets = [socket.create_server(("127.0.0.1", port)) for port in ports]
    edges.urls = [f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]
    servers = [
        uvicorn.Server(
            uvicorn.Config(edges.app(f"edge-{n}"), log_level="warning", timeout_graceful_shutdown=1)
        )
        for n in range(2)
    ]

    async def serve() -> None:
        await asyncio.gather(
            *(server.serve(sockets=[sock]) for server, sock in zip(servers, sockets, strict=True))
        )

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        yield edges
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(timeout=10)


DEMO = [
    word + " "
    for word in """\
Recursion is when a function **calls itself** to solve a smaller part of the same problem.
Every recursive function needs two things:

1. A *base case*: the answer is known, and the function stops calling itself.
2. A *recursive case*: the problem gets smaller, and the function asks itself again.

Here is a small example that counts down:

```python
def countdown(n):
    if n == 0:          # base case
        print("Lift off!")
        return
    print(n)
    countdown(n - 1)    # recursive case
```

Calling `countdown(3)` prints `3`, `2`, `1` and then `Lift off!`. Each call waits until the
one it made has returned.

## When it is useful

- **Trees and folders**, which contain smaller trees and folders.
- **Divide and conquer**, as in merge sort.
- Problems whose definition is already recursive, such as `factorial`.

If the base case is missing, the calls never stop, and Python raises a `RecursionError`.
""".split(" ")
]

if __name__ == "__main__":
    with fake_edges((8480, 8481)) as running:
        print("\n".join(running.urls))
        threading.Event().wait()
