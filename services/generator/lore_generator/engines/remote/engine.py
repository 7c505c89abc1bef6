"""The engine that is driven over HTTP: a thread with an event loop; it decodes nothing itself."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager

import aiohttp
import structlog
import uvloop

from lore_generator.engine import EngineInfo, EngineStats, GivenUp, Job, Piece, Sink
from lore_generator.engines.options import RemoteOptions
from lore_generator.engines.remote.answer import Answer
from lore_generator.engines.remote.calling import CallContext
from lore_generator.engines.remote.dialects import DIALECTS
from lore_generator.engines.remote.pool import ServerPool
from lore_generator.engines.remote.server import Server

LOST = GivenUp("its server went down", failed=True)
CRASHED = GivenUp("the generator failed here", failed=True)

log = structlog.get_logger()


class RemoteEngine:
    def __init__(self, options: RemoteOptions) -> None:
        """Raises ValueError for a file that cannot be used."""
        self._options = options
        self._headers = _headers(options)
        self._tls = _tls(options)
        self._dialect = DIALECTS[options.dialect]
        self._loop = uvloop.new_event_loop()
        self._ready: Future[EngineInfo] = Future()
        self._thread = threading.Thread(target=self._run_loop, name="remote-engine", daemon=True)
        self._stop = asyncio.Event()
        self._pool: ServerPool | None = None
        self._answers: dict[str, tuple[Answer, asyncio.Task[None]]] = {}
        self._pieces: list[Piece] = []

    def start(self, sink: Sink) -> EngineInfo:
        """Wait for a server that is not up yet; ``trouble`` says so meanwhile."""
        self._sink = sink
        self._thread.start()
        return self._ready.result()

    def submit(self, job: Job, limit: int | None) -> None:
        self._call(self._begin, job, limit)

    def grant(self, request_id: str, limit: int | None) -> None:
        self._call(self._grant, request_id, limit)

    def hold(self, request_id: str) -> None:
        self._call(self._hold, request_id)

    def park(self, request_id: str, ahead_tokens: int) -> None: ...

    def cancel(self, request_id: str) -> None:
        self._call(self._cancel, request_id)

    def stats(self) -> EngineStats:
        pool, answers = self._pool, [answer for answer, _ in list(self._answers.values())]
        if pool is None:
            return EngineStats()
        up = [server for server in pool.servers if server.is_up]
        running = sum(answer.is_calling for answer in answers)
        return EngineStats(
            running,
            len(answers) - running,
            sum(server.waiting for server in up),
            max((server.kv_used_ratio for server in up), default=0.0),
            pool.steps,
            len(up),
            len(pool.servers) - len(up),
        )

    def alive(self) -> bool:
        return self._thread.is_alive()

    def trouble(self) -> str:
        return self._pool.trouble if self._pool is not None else ""

    def stop(self) -> None:
        self._call(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join()

    # runs in the engine's thread

    def _call(self, what: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what, *args)

    def _run_loop(self) -> None:
        self._loop.run_until_complete(self._main())
        # A transport that was closed lets its socket go in the loop's next turn.
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _main(self) -> None:
        try:
            async with self._open() as pool, asyncio.TaskGroup() as tasks:
                self._pool = pool
                watches = [tasks.create_task(pool.watch(server)) for server in pool.servers]
                if await self._is_up(pool):
                    self._engine = self._agree(pool)
                    self._ready.set_result(self._info(pool))
                    await self._stop.wait()
                work = [task for _, task in self._answers.values()]
                for task in (*watches, *work):
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)
                await pool.close()
        except Exception as error:
            if self._ready.done():
                log.exception("engine thread crashed")
            else:
                self._ready.set_exception(error)

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[ServerPool]:
        options = self._options

        def session(*, keep: bool) -> aiohttp.ClientSession:
            # A llama.cpp server has two more threads than slots, and an idle connection occupies
            # one for seconds. With more than one idle connection of ours, the next call would wait
            # for that.
            connector = aiohttp.TCPConnector(
                limit=0, limit_per_host=int(keep), ssl=self._tls, force_close=not keep
            )
            return aiohttp.ClientSession(connector=connector, headers=self._headers)

        async with session(keep=True) as asks, session(keep=False) as calls:
            yield ServerPool(
                options,
                self._dialect,
                [Server(url, asks, calls, answer_s=options.answer_s) for url in options.urls],
            )

    async def _is_up(self, pool: ServerPool) -> bool:
        """Wait until one server is up. Returns False when the engine is stopped before that."""
        up, stop = asyncio.ensure_future(pool.until_up()), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([up, stop], return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        stop.cancel()
        if self._stop.is_set():
            self._ready.set_exception(ValueError("stopped"))
            return False
        return True

    def _agree(self, pool: ServerPool) -> CallContext:
        assert pool.words is not None
        assert pool.identity is not None
        model, context = pool.identity.model, pool.identity.context_tokens
        context = self._options.context_tokens or context
        return CallContext(self._dialect, pool, pool.words, model, context, self._options.step_s)

    def _info(self, pool: ServerPool) -> EngineInfo:
        engine = self._engine
        assert pool.identity is not None
        slots = max(server.slots for server in pool.servers) * len(pool.servers)
        return EngineInfo(
            engine.model,
            slots,
            engine.context_tokens,
            engine.words.tokenizer_file,
            self._options.revision or pool.identity.revision,
            {"engine": self._dialect.name},
            engine.words.parts,
            engine.words.switches,
            pauses=False,  # to go on is another call, which may read the whole prompt again
        )

    def _begin(self, job: Job, limit: int | None, calls: int = 0) -> None:
        self._cancel(job.request_id)
        answer = Answer(self._engine, job, limit, self._emit, calls)
        task = self._loop.create_task(self._run(answer, job.request_id))
        self._answers[job.request_id] = answer, task

    async def _run(self, answer: Answer, request_id: str) -> None:
        try:
            await answer.run()
        except asyncio.CancelledError:
            # A server that goes down ends its calls by a timeout, perhaps between two events. An
            # answer that was cancelled, or that begins anew (``_hold``), is not known any more.
            if not self._is_known(answer, request_id) or self._stop.is_set():
                raise
            self._emit(Piece(request_id, given_up=LOST))
        except Exception:
            log.exception("request failed", request_id=request_id.partition(".")[0])
            self._emit(Piece(request_id, given_up=CRASHED))
        finally:
            if self._is_known(answer, request_id):
                del self._answers[request_id]

    def _is_known(self, answer: Answer, request_id: str) -> bool:
        known = self._answers.get(request_id)
        return known is not None and known[0] is answer

    def _grant(self, request_id: str, limit: int | None) -> None:
        if request_id in self._answers:
            self._answers[request_id][0].grant(limit)

    def _hold(self, request_id: str) -> None:
        """Close the call: an engine stops reading a prompt when its connection closes."""
        known = self._answers.get(request_id)
        if known is not None and not known[0].has_begun:
            self._begin(known[0].job, 0, known[0].calls)

    def _cancel(self, request_id: str) -> None:
        known = self._answers.pop(request_id, None)
        if known is not None:
            known[1].cancel()

    def _emit(self, piece: Piece) -> None:
        """Pass a piece on. All pieces of one turn of the loop go out in one call."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(piece)

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        self._sink(pieces)


def _headers(options: RemoteOptions) -> dict[str, str]:
    """Raises ValueError."""
    if options.key_file is None:
        return {}
    try:
        key = options.key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"LORE_ENGINE_KEY_FILE: cannot read {options.key_file}: {said}") from None
    if not key or not key.isprintable() or not key.isascii():
        raise ValueError(f"LORE_ENGINE_KEY_FILE: {options.key_file} must hold one line, the key")
    return {"Authorization": f"Bearer {key}"}


def _tls(options: RemoteOptions) -> ssl.SSLContext:
    """Raises ValueError."""
    try:
        return ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        said = error.strerror or "it holds no certificate"
        raise ValueError(f"LORE_ENGINE_CA_FILE: cannot use {options.ca_file}: {said}") from None
