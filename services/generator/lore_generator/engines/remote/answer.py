"""One request at an engine that learns of the limit late (protocol P5.4, P5.5, P5.8).

A call asks for the whole answer. Its tokens are released up to the credit. The first token beyond
it is kept, and the connection is closed, by which the engine learns of the limit. Once there is
credit, kept tokens are released, and the next call continues behind them, with the ids of the
prompt, the log and the kept tokens. So a reader who keeps up costs one call (P5.7), and an end
exactly at the credit is noticed (P5.6). An answer whose form the engine keeps is one call
(``bound``).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing

from lore import metrics
from lore.parts.markers import left_open, names_of
from lore.protocol.lifecycle import INVALID_SCHEMA
from lore.protocol.logprobs import Scored
from lore_generator.engine import GivenUp, Job, Piece
from lore_generator.engines.conversation import TAIL, Refused, behind_log, check_known
from lore_generator.engines.remote.bound import Bound, Token
from lore_generator.engines.remote.calling import CallContext, call_seed
from lore_generator.engines.remote.constraint import constraint_of
from lore_generator.engines.remote.dialects.base import EngineCall, EngineEvent, Mends
from lore_generator.engines.remote.scores import scored
from lore_generator.engines.remote.server import Server
from lore_generator.engines.remote.trouble import KILLED, Kind, Trouble

BUSY_FIRST_S, BUSY_LAST_S = 0.1, 2.0
WHOLE_TOKENS = 8
BUSY_FOR_S = 30.0
"""An engine that is busy for so many seconds has no time for this request, which is handed back."""


class Answer:
    def __init__(
        self,
        engine: CallContext,
        job: Job,
        limit: int | None,
        emit: Callable[[Piece], None],
        calls: int = 0,
    ) -> None:
        """``calls``: how many calls were made for this job before."""
        self.limit = limit
        self.is_calling = False
        self.job = job
        self.calls = calls
        self._engine = engine
        self._emit = emit
        self._granted = asyncio.Event()
        self._prompt: list[int] = []
        self._ids: list[int] = list(job.generated_ids)
        """The released tokens, including those in the log."""
        self._held: deque[Token] = deque()
        """Tokens beyond the credit: generated, but not released."""
        self._end: str | None = None
        """How the engine ended the answer, after the held tokens."""
        self._unsent = ""
        self._bound: Bound | None = None
        self._server: Server | None = None
        self._over = False

    @property
    def has_begun(self) -> bool:
        """Whether the engine has generated a token for this job."""
        return bool(self._held) or len(self._ids) > len(self.job.generated_ids)

    def grant(self, limit: int | None) -> None:
        if self.limit is not None and (limit is None or limit > self.limit):
            self.limit = limit
            self._granted.set()

    async def run(self) -> None:
        """Run until the answer ends or is given up."""
        name = self.job.request_id
        try:
            await self._begin()
            while True:
                self._granted.clear()
                if await self._let_out():
                    return
                if self._held or self._is_spent():
                    await self._granted.wait()
                else:
                    await self._call()
        except Refused as refused:
            self._emit(Piece(name, finish_reason=refused.reason, error=str(refused)))
        except Trouble as trouble:
            if trouble.kind is Kind.REFUSED:
                self._emit(self._refused(trouble))
            else:
                given_up = GivenUp(trouble.message, trouble.kind in KILLED)
                self._emit(Piece(name, given_up=given_up))

    def _refused(self, trouble: Trouble) -> Piece:
        said = f"{self._engine.dialect.title} refuses this request: {trouble.message}"
        if self._bound is None:
            return Piece(self.job.request_id, finish_reason="error", error=said)
        # Nothing else of such a request is known to be refused.
        said = f"{self._bound.parameter}: {said}"
        return Piece(self.job.request_id, finish_reason=INVALID_SCHEMA, error=said)

    def _is_spent(self) -> bool:
        return self.limit is not None and len(self._ids) >= self.limit

    # start

    async def _begin(self) -> None:
        """Determine the prompt. Raises Refused."""
        engine, job = self._engine, self.job
        request, words = job.request, engine.words
        refused = engine.dialect.refuses(request)
        if refused is not None:
            raise Refused(f"the engine here ({engine.dialect.name}) does not offer {refused}")
        self._prompt = await words.prompt(request)
        check_known(self._prompt, self._ids, words.vocabulary, engine.context_tokens)
        form = request.form()
        self._script = words.script(request.stop, names_of(form))
        opened = left_open(form, await words.tail(self._prompt[-TAIL:])) if form.reasons else ""
        done = [one for one in self._ids if one not in words.eos_ids]
        said = opened + await self._script.feed(done)
        self._unsent = behind_log(job, said)
        if constraint := constraint_of(request, opened):
            title = engine.dialect.title
            self._bound = Bound(request, constraint, job.generated_text, title)
        self._most = min(request.max_tokens, engine.context_tokens - len(self._prompt))
        shown = tuple(self._prompt) if request.return_token_ids else ()
        count = len(self._prompt)
        self._emit(Piece(job.request_id, prompt_tokens=count, prompt_ids=shown))

    # output

    async def _let_out(self) -> bool:
        """Release what the credit allows. Returns True when the answer is over."""
        if self._over:
            return True
        held, ids = self._held, self._ids
        credit = self._most - len(ids)
        if self.limit is not None:
            credit = min(credit, self.limit - len(ids))
        taken = [held.popleft() for _ in range(min(max(0, credit), len(held)))]
        out = [token for token, _ in taken]
        text, self._unsent = self._unsent + await self._read(out), ""
        ids += out
        reason, error = self._reason(), None
        if reason is not None:
            self._over = True
            text += self._script.finish()
        if self._bound is not None:
            self._bound.say(text)
            if reason == "stop" and not self._script.stopped:
                error = self._bound.fault()
        if out or text or reason is not None:
            name, prompt = self.job.request_id, len(self._prompt)
            scored = tuple(one for _, one in taken[: len(out)] if one is not None)
            reason = "error" if error else reason
            self._emit(Piece(name, tuple(out), text, reason, error, prompt, scored))
        return self._over

    async def _read(self, out: list[int]) -> str:
        """The text of these tokens. Tokens behind a stop string are removed from ``out``."""
        eos_ids, script = self._engine.words.eos_ids, self._script
        if not self.job.request.stop:
            return await script.feed([one for one in out if one not in eos_ids])
        text = ""
        for number, token in enumerate(out):
            if token not in eos_ids:
                text += await script.feed([token])
            if script.stopped:
                del out[number + 1 :]
        return text

    def _reason(self) -> str | None:
        if self._script.stopped:
            return "stop"
        if self._ids and self._ids[-1] in self._engine.words.eos_ids:
            return "stop"
        if len(self._ids) >= self._most:
            return "length"
        return None if self._held else self._end

    # calls

    async def _call(self) -> None:
        """Call the engine until the call ends or brings a token beyond the credit. Raises
        Trouble.
        """
        loop, pause_s = asyncio.get_running_loop(), BUSY_FIRST_S
        give_up_s = loop.time() + BUSY_FOR_S
        while True:
            async with self._engine.pool.place(self._server) as server:
                self._server = server
                try:
                    await self._call_at(server)
                except Trouble as trouble:
                    self._engine.pool.on_trouble(server, trouble)
                    if trouble.kind not in (Kind.AWAY, Kind.UNFIT, Kind.BUSY):
                        raise
                    failed = trouble
                else:
                    return
            if failed.kind is Kind.BUSY:
                if loop.time() >= give_up_s:
                    raise failed
                self._server = None
                await asyncio.sleep(min(failed.retry_after_s or pause_s, BUSY_LAST_S))
                pause_s = min(2 * pause_s, BUSY_LAST_S)

    async def _call_at(self, server: Server) -> None:
        engine, made = self._engine, 0
        call = self._next_call()
        body = await self._body(server, call)
        self.is_calling = True
        metrics.ENGINE_CALLS.inc()
        stream = server.stream(engine.dialect.path, body, step_s=engine.step_s)
        try:
            async with aclosing(stream) as events:
                async for event in events:
                    said = engine.dialect.read(event, made)
                    if said.missing:
                        ids = await self._recover(server, said)
                        if ids is None:
                            break
                        said = said._replace(ids=ids)
                    elif said.text and len(said.ids) == 1:
                        engine.words.learn(said.ids[0], said.text)
                    made += len(said.ids)
                    await self._hold(said)
                    if await self._let_out() or said.end is not None or await self._is_beyond():
                        return
                else:
                    raise Trouble(Kind.FAILED, "its answer was cut short")
            await self._make_whole(server)
        finally:
            self.is_calling = False
            if self._end is None:
                engine.pool.abort(server, call.name)

    async def _body(self, server: Server, call: EngineCall) -> dict[str, object]:
        dialect = self._engine.dialect
        body = dialect.body(call)
        if self._bound is None:
            return body
        return await dialect.constrain(server.ask, body, self._bound.constraint)

    async def _recover(self, server: Server, said: EngineEvent) -> list[int] | None:
        dialect = self._engine.dialect
        assert isinstance(dialect, Mends)
        return await dialect.recover(server.ask, said)

    async def _make_whole(self, server: Server) -> None:
        """Generate anew, in one piece, a few tokens whose ids the stream does not contain; all that
        follow, if the engine keeps their form.
        """
        dialect, call = self._engine.dialect, self._next_call()
        assert isinstance(dialect, Mends)
        most = call.most if self._bound else min(WHOLE_TOKENS, call.most)
        if self.limit is not None and not self._bound:
            most = max(1, min(most, self.limit - len(self._ids)))
        body = dialect.whole(await self._body(server, call), most)
        answer = await server.whole(dialect.path, body, step_s=self._engine.step_s)
        said = dialect.read_whole(answer, most)
        await self._hold(said)
        await self._let_out()

    async def _hold(self, said: EngineEvent) -> None:
        """Take what the engine has made; it waits for credit. Raises Trouble and Refused."""
        scores: Sequence[Scored | None] = [None] * len(said.ids)
        most, engine = self.job.request.logprobs, self._engine
        if most is not None:
            is_whole = not isinstance(engine.dialect, Mends)
            scores = await scored(said, most, engine.words, whole=is_whole)
        made: Sequence[Token] = list(zip(said.ids, scores, strict=True))
        if self._bound is not None:
            made = self._bound.new(made, is_end=said.end is not None)
        self._held.extend(made)
        self._end = said.end

    async def _is_beyond(self) -> bool:
        """Whether a token is held for which to close the call. A token that may end the answer is
        none: the next event tells.
        """
        if not self._held or self._bound is not None:
            return False
        return not await self._engine.words.may_end(self._held[-1][0])

    def _next_call(self) -> EngineCall:
        ids = self._ids
        if self._bound is not None:
            self._bound.begin(ids)
            self._held.clear()
            ids = []
        self.calls += 1
        return EngineCall(
            self._engine.model,
            [*self._prompt, *ids],
            self._most - len(ids),
            self.job.request,
            call_seed(self.job, len(ids)),
            f"{self.job.request_id}.{self.calls}",
        )
