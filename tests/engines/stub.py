"""A server that answers as an engine's documentation says, and misbehaves when it is told to.

It speaks llama.cpp's dialect, vLLM's or SGLang's. Its answer to any prompt is the same tokens in
the same order, so that a test can see what was lost or doubled: token n + 1 follows token n.
"""

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self

from aiohttp import web

from tests.engines import stub_events
from tests.engines.stub_events import EOS, word

FIRST = 100
"""Its answers begin with ``FIRST`` and count up, as long as ``first`` is not changed; ``EOS`` ends
them.
"""
SAID = {
    "half a line": b'data: {"toke',
    "garbage": b"data: {}}}\n\n",
    "busy": b'data: {"error": {"code": 503, "message": "busy"}}\n\n',
}
"""What it says in the middle of a broken call."""
GRAMMAR = 'root ::= "\\"root\\"" [ro"ot] space\nspace ::= " "\n'
"""What it makes of any schema, as llama.cpp does."""

WHOLE = (*range(FIRST, FIRST + 40), EOS)
"""Its answer to a prompt, as long as ``length`` is not changed."""

Json = dict[str, Any]


class Stub:
    """Runs in a thread of its own for as long as the context does."""

    def __init__(self, dialect: str, tls: ssl.SSLContext | None = None) -> None:
        self.dialect = dialect
        self._tls = tls
        self.model, self.context_tokens, self.length = "stub", 4096, 40
        self.first = FIRST
        self.key = ""
        self.broken: list[str] = []
        """What the next calls do instead of what they should: see ``_stream``."""
        self.sick = ""
        """What questions about itself do: a status, ``hang``, ``garbage``, ``redirect``, ``deep``
        or nothing."""
        self.lacks = ""
        """The path of a call that it does not have."""
        self.pause_s = self.prompt_s = 0.0
        """Between two tokens, and before the first."""
        self.bodies: list[Json] = []
        self.asked: dict[str, Json] = {}
        """The last body of each question about itself."""
        self.aborted: list[str] = []
        self.open = 0
        """Calls whose connection is open."""
        self.made = 0
        self.waiting = 0
        self.with_ids = self.with_logprobs = True
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0
        self._transports: set[asyncio.Transport] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self) -> None:
        """Listens, on the port that it had before."""
        self._do(self._start())

    def kill(self) -> None:
        """Its connections break, and nobody listens any more."""
        self._do(self._stop())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._guarded])
        app.add_routes([web.route("*", "/{path:.*}", self._answer)])
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await self._runner.setup()
        where: Any = {"ssl_context": self._tls, "reuse_address": True}
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, **where)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        server = self._runner.server
        if server is None:
            return  # it was killed before
        await self._runner.cleanup()
        for task in asyncio.all_tasks():  # connections that were just being accepted
            if getattr(task.get_coro(), "__name__", "") == "_accept_connection2":
                await asyncio.wait([task])
        late = [handler.transport for handler in server.connections]
        for transport in (*self._transports, *filter(None, late)):
            # Python 3.11.2: a TLS transport that is closed has no protocol left to ask.
            with contextlib.suppress(AttributeError):
                transport.abort()
        self._transports.clear()
        for _ in range(3):  # transports that were aborted close in the loop's next turns
            await asyncio.sleep(0)

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        assert request.transport is not None
        self._transports.add(request.transport)
        given = request.headers.get("Authorization", "")
        if self.key and given != f"Bearer {self.key}":
            return web.json_response({"error": {"message": f"wrong key: {given}"}}, status=401)
        return await handler(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body: Json = await request.json() if request.can_read_body else {}
        path = request.path
        self.asked[path] = body
        if body.get("n_predict") == 0:
            return web.json_response({"generation_settings/grammar": GRAMMAR})
        if path in ("/completion", "/v1/completions", "/generate"):
            return await self._stream(request, body)
        if path == "/abort_request":
            self.aborted.append(body["rid"])
            return web.json_response({})
        if path == "/metrics":
            return web.Response(text=f"llamacpp:requests_deferred {self.waiting}\n")
        if self.sick == "hang":
            await asyncio.sleep(3600)
        if self.sick.isdigit():
            return web.json_response({"error": "sick"}, status=int(self.sick))
        if self.sick == "redirect":
            raise web.HTTPTemporaryRedirect(f"http://elsewhere.example{path}?token=secret")
        if self.sick == "deep":
            return web.Response(text="[" * 100_000)
        if self.sick == "garbage":
            return web.Response(text="<html>It works!</html>")
        found = QUESTIONS[self.dialect].get(path)
        if found is None or path == self.lacks:
            return web.json_response({"error": {"message": f"no {path} here"}}, status=404)
        return web.json_response(found(self, body))

    async def _stream(self, request: web.Request, body: Json) -> web.StreamResponse:
        self.bodies.append(body)
        broken = self.broken.pop(0) if self.broken else ""
        if broken.isdigit():
            return web.json_response(
                {"error": {"message": f"told to say {broken}"}},
                status=int(broken),
                headers={"Retry-After": "0"} if broken in ("429", "503") else None,
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self.open += 1
        try:
            await self._write(request, response, body, broken)
        finally:
            self.open -= 1
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, body: Json, broken: str
    ) -> None:
        await response.prepare(request)
        assert request.transport is not None
        ids = prompt_of(body)
        await asyncio.sleep(self.prompt_s)
        made, most = 0, most_of(body)
        while made < most:
            if broken and made == 3:
                if broken == "hang":
                    await asyncio.sleep(3600)
                if broken in SAID:
                    await response.write(SAID[broken])
                if broken in ("half a line", "cut"):
                    request.transport.abort()
                if broken in ("early end", "busy"):
                    return
                if broken == "short":
                    break
            token = ids[-1] + 1 if ids[-1] >= self.first else self.first
            if token - self.first >= self.length:
                token = EOS
            ids.append(token)
            made += 1
            self.made += 1
            await response.write(self._event(ids[-made:], body, end=None))
            if token == EOS:
                break
            await asyncio.sleep(self.pause_s)
        end = "stop" if ids[-1] == EOS else "length"
        await response.write(self._event(ids[len(ids) - made :], body, end=end))
        if self.dialect != "llamacpp":
            await response.write(b"data: [DONE]\n\n")

    def _event(self, made: list[int], body: Json, *, end: str | None) -> bytes:
        event = stub_events.EVENTS[self.dialect](
            made if self.with_ids else [], len(made), body, end, scored=self.with_logprobs
        )
        return b"data: " + json.dumps(event).encode() + b"\n\n"

    def until(self, happened: Callable[[], bool]) -> None:
        give_up = threading.Event()
        for _ in range(3000):
            if happened():
                return
            give_up.wait(0.01)
        raise TimeoutError


def prompt_of(body: Json) -> list[int]:
    return list(body.get("prompt") or body["input_ids"])


def most_of(body: Json) -> int:
    given = body.get("n_predict") or body.get("max_tokens")
    return given or body["sampling_params"]["max_new_tokens"]


def _props(stub: Stub, _: Json) -> Json:
    return {
        "default_generation_settings": {"n_ctx": stub.context_tokens},
        "total_slots": 4,
        "eos_token": "<end>",
    }


def _tokenize(_: Stub, body: Json) -> Json:
    text = body.get("content") or body.get("prompt") or ""
    if text == "<end>":
        return {"tokens": [EOS] if body.get("parse_special") else [1, 2, 3]}
    return {"tokens": [10 + len(one) for one in text.split()]}


def _detokenize(_: Stub, body: Json) -> Json:
    return {"content": "".join("<end>" if one == EOS else word(one) for one in body["tokens"])}


QUESTIONS: dict[str, dict[str, Callable[[Stub, Json], Json]]] = {
    "llamacpp": {
        "/props": _props,
        "/v1/models": lambda stub, _: {"data": [{"id": stub.model, "meta": {"n_vocab": 1000}}]},
        "/tokenize": _tokenize,
        "/detokenize": _detokenize,
        "/apply-template": lambda _, body: {
            "prompt": " ".join(m["content"] for m in body["messages"])
        },
    },
    "vllm": {
        "/v1/models": lambda stub, _: {
            "data": [
                {
                    "id": stub.model,
                    "owned_by": "vllm",
                    "root": "/models/stub",
                    "max_model_len": stub.context_tokens,
                }
            ]
        },
    },
    "sglang": {
        "/get_server_info": lambda stub, _: {
            "model_path": stub.model,
            "context_length": stub.context_tokens,
            "max_running_requests": 4,
        },
    },
}
