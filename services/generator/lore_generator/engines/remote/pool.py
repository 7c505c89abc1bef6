"""The servers of one engine: which are healthy, and which gets the next request.

Each is asked every second what it serves. One that does not answer, or serves something else than
the others or than before, is down, and its calls are given up. It is examined again until it is as
it was. A server that comes up is examined thoroughly: its ids and its chat template are compared
with ours, and one token is generated.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import structlog

from lore import metrics
from lore.parts.formats import of_template
from lore.request import StreamRequest
from lore_generator.engines.options import RemoteOptions
from lore_generator.engines.remote import tokenizer
from lore_generator.engines.remote.dialects.base import (
    EngineCall,
    EngineDialect,
    Identity,
    ServerFacts,
    chat_of,
)
from lore_generator.engines.remote.server import Server
from lore_generator.engines.remote.template import switches_of
from lore_generator.engines.remote.trouble import Kind, Trouble
from lore_generator.engines.remote.words import EngineWords, OwnWords, Words

ABORTS_S = 1.0
POLL_S = 1.0
AWAY_S = 2.0
"""How many seconds a request waits for a server before it is handed back."""
LOAD_S = 2.0
DEFAULT_SLOTS = 64
PROBE = "Lore asks: is 1 + 1 = 2? “Ja”, naïve 中文 🙂\n"
PROBE_MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": PROBE})

log = structlog.get_logger()


class ServerPool:
    def __init__(
        self, options: RemoteOptions, dialect: EngineDialect, servers: Sequence[Server]
    ) -> None:
        self.servers = servers
        self.words: Words | None = None
        self.identity: Identity | None = None
        self.steps = 0
        """Grows while this thread runs."""
        self._options = options
        self._dialect = dialect
        self._line = asyncio.Lock()
        self._changed = asyncio.Event()
        self._hurry = {server: asyncio.Event() for server in servers}
        self._aborts: set[asyncio.Task[None]] = set()
        self._down_s: float | None = asyncio.get_running_loop().time()
        """Since when all servers are down."""

    @property
    def trouble(self) -> str:
        """Why requests cannot be taken, or ''."""
        if any(server.is_up for server in self.servers):
            return ""
        return "; ".join(f"{server.url}: {server.why_down}" for server in self.servers)

    async def until_up(self) -> None:
        """Wait until one server is up."""
        while self.trouble:
            self._changed.clear()
            await self._changed.wait()

    # places

    @asynccontextmanager
    async def place(self, preferred: Server | None) -> AsyncGenerator[Server]:
        """A place at a server: at ``preferred``, which has the request's KV, if that has one.

        Waits in line. Raises Trouble when all servers have been down for a while.
        """
        async with self._line:
            server = await self._find(preferred)
            server.calls += 1
        try:
            yield server
        finally:
            server.calls -= 1
            self._changed.set()

    async def _find(self, preferred: Server | None) -> Server:
        while True:
            if preferred is not None and preferred.has_room:
                return preferred
            free = [server for server in self.servers if server.has_room]
            if free:
                return min(free, key=lambda server: server.calls / server.slots)
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._patience()):
                    await self._changed.wait()

    def _patience(self) -> float | None:
        """How many seconds to wait for a server. Raises Trouble when they are over."""
        if self._down_s is None:
            return None
        until_s = self._down_s + AWAY_S
        if asyncio.get_running_loop().time() >= until_s:
            raise Trouble(Kind.AWAY, self.trouble)
        return until_s

    def on_trouble(self, server: Server, trouble: Trouble) -> None:
        """A call at this server failed: examine the server."""
        metrics.ENGINE_TROUBLES[trouble.kind].inc()
        if trouble.kind in (Kind.AWAY, Kind.UNFIT):
            self._set_down(server, trouble.message)
        self._hurry[server].set()

    async def ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Ask any server that is up. Raises Trouble."""
        trouble = Trouble(Kind.AWAY, self.trouble)
        for server in self.servers:
            if server.is_up:
                try:
                    return await server.ask(method, path, body)
                except Trouble as its:
                    if its.kind is Kind.REFUSED:
                        raise
                    trouble = its
                    self.on_trouble(server, its)
        raise trouble

    def abort(self, server: Server, name: str) -> None:
        """A call was closed before its end. Abort it, because the engine may not notice a closed
        connection.
        """
        asked = self._dialect.abort(name)
        if asked is not None:
            task = asyncio.create_task(self._abort(server, *asked))
            self._aborts.add(task)
            task.add_done_callback(self._aborts.discard)

    async def _abort(self, server: Server, path: str, body: Mapping[str, object]) -> None:
        with contextlib.suppress(Trouble):  # then it notices the closed connection, later
            await server.ask("POST", path, body)

    async def close(self) -> None:
        """Give the last aborts a moment to arrive while the connections are open."""
        aborts = tuple(self._aborts)
        if aborts:
            await asyncio.wait(aborts, timeout=ABORTS_S)
        for task in aborts:
            task.cancel()
        await asyncio.gather(*aborts, return_exceptions=True)

    # health

    async def watch(self, server: Server) -> None:
        """Watch a server for as long as the engine runs."""
        while True:
            self._hurry[server].clear()
            await self._look_at(server)
            self.steps += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._hurry[server].wait()

    async def _look_at(self, server: Server) -> None:
        try:
            if server.is_up:
                self._check_identity(await self._identify(server))
                await self._ask_load(server)
            else:
                await self._examine(server)
                self._set_up(server)
        except Trouble as trouble:
            is_busy = trouble.kind is Kind.BUSY or (
                trouble.kind is Kind.SILENT and server.is_decoding
            )
            if not (server.is_up and is_busy):
                self._set_down(server, trouble.message)
        except Exception as error:
            log.debug("engine answer not understood", url=server.url, exc_info=True)
            self._set_down(server, f"its answers are not understood ({type(error).__name__})")

    async def _ask_load(self, server: Server) -> None:
        if not server.tells_load:
            return
        try:
            async with asyncio.timeout(LOAD_S):
                server.waiting, server.kv_used_ratio = await self._dialect.load(server.text)
        except Trouble as trouble:
            server.tells_load = trouble.kind is not Kind.UNFIT
        except TimeoutError:
            pass  # it is decoding

    def _set_up(self, server: Server) -> None:
        server.why_down, self._down_s = "", None
        server.tells_load = True
        self._changed.set()
        log.info("engine up", url=server.url, slots=server.slots)

    def _set_down(self, server: Server, why: str) -> None:
        if server.why_down != why:
            log.warning("engine down", url=server.url, reason=why)
        server.down(why)
        if self._down_s is None and self.trouble:
            self._down_s = asyncio.get_running_loop().time()
        self._changed.set()

    # examination

    async def _examine(self, server: Server) -> None:
        """Examine a server. Raises Trouble with one clear line."""
        options = self._options
        facts = await self._identify(server)
        self._check_identity(facts)
        wanted, has = options.context_tokens, facts.identity.context_tokens
        if wanted is not None and wanted > has:
            raise Trouble(
                Kind.UNFIT, f"its context is {has} tokens, and LORE_CONTEXT_TOKENS is {wanted}"
            )
        words = self.words or await self._find_words(facts)
        if isinstance(words, EngineWords):
            await words.prepare(server.ask, facts.eos)
        if isinstance(words, OwnWords):
            await self._compare(server, words, facts.identity.model)
        await self._try(server, words, facts.identity.model)
        server.slots = options.slots or facts.slots or DEFAULT_SLOTS
        self.words, self.identity = words, facts.identity

    async def _identify(self, server: Server) -> ServerFacts:
        """Find out what it serves. Raises Trouble."""
        try:
            return await self._dialect.identify(server.ask, self._options.model)
        except Trouble as trouble:
            if trouble.is_absent:
                said = f"it is not a {self._dialect.title} server: {trouble.message}"
                raise Trouble(Kind.UNFIT, said) from None
            raise

    def _check_identity(self, facts: ServerFacts) -> None:
        if self.identity is not None and facts.identity != self.identity:
            now, before = facts.identity, self.identity
            what = f"{now.model} ({now.print}, context {now.context_tokens})"
            raise Trouble(
                Kind.UNFIT,
                f"it serves {what}, and no longer {before.model} ({before.print}, context"
                f" {before.context_tokens}); restart the generator to accept it",
            )

    async def _find_words(self, facts: ServerFacts) -> Words:
        name, args = self._options.tokenizer or facts.tokenizer, self._options.template_args
        if name is None:
            if not self._dialect.has_own_text:
                raise Trouble(Kind.UNFIT, "it names no tokenizer; set LORE_TOKENIZER")
            parts, switches = str(of_template(facts.template)), switches_of(facts.template)
            return EngineWords(self.ask, args, parts, switches, facts.vocabulary)
        try:
            text = await asyncio.to_thread(tokenizer.load, name, self._options.revision, args)
        except ValueError as error:
            raise Trouble(Kind.UNFIT, str(error)) from None
        return OwnWords(text)

    async def _compare(self, server: Server, words: OwnWords, model: str) -> None:
        text, args = words.text, self._options.template_args
        theirs = await _if_it_can(self._dialect.tokenize(server.ask, model, PROBE))
        ours = text.tokenizer.encode(PROBE, add_special_tokens=False).ids
        if theirs is not None and theirs != ours:
            raise Trouble(Kind.UNFIT, f"its token ids differ from those of {text.file}")
        if text.render is None:
            return
        chat = chat_of(PROBE_MESSAGES, args)
        theirs = await _if_it_can(self._dialect.template(server.ask, model, chat))
        ours = await words.prompt(_request(PROBE_MESSAGES))
        if theirs is not None and theirs != ours:
            raise Trouble(Kind.UNFIT, f"its chat template differs from that of {text.file}")

    async def _try(self, server: Server, words: Words, model: str) -> None:
        """Generate one token, to see whether the stream contains ids. Raises Trouble."""
        request = _request(({"role": "user", "content": "1"},))
        dialect = self._dialect
        ids = (
            await words.prompt(request)
            if isinstance(words, OwnWords)
            else await dialect.tokenize(server.ask, model, "1")
        )
        assert ids is not None
        call = EngineCall(model, ids, 1, request, 0, "lore-probe")
        made = 0
        stream = server.stream(dialect.path, dialect.body(call), step_s=self._options.step_s)
        async with aclosing(stream) as events:
            async for event in events:
                said = dialect.read(event, made)
                made += len(said.ids)
                if said.end is not None:
                    break
        if not made:
            raise Trouble(Kind.UNFIT, "no token ids in its stream")


async def _if_it_can(asking: Awaitable[list[int] | None]) -> list[int] | None:
    """The result, or None if the engine lacks this call, as behind many gateways, or has no
    template.
    """
    try:
        return await asking
    except Trouble as trouble:
        if trouble.kind in (Kind.UNFIT, Kind.REFUSED):
            return None
        raise


def _request(messages: Sequence[Mapping[str, str]]) -> StreamRequest:
    return StreamRequest.model_validate({"messages": list(messages), "temperature": 0.0})
