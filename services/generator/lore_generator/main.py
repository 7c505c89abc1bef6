"""Reads the settings, loads the engine, serves until SIGTERM.

Exit status: 0 after a drain, 1 when it cannot start or its engine died or hung,
2 for bad settings.
"""

import asyncio
import contextlib
import functools
import os
import signal
from typing import Any, NoReturn

import structlog
import uvloop

from lore import keepers, stderr, tracing
from lore.logs import configure_logging
from lore.serving import open_store, serve_health
from lore.settings import load
from lore.startup import Fatal
from lore.store import Store
from lore_generator import ranks, termination_log
from lore_generator.engines import create_engine
from lore_generator.service import CannotStart, EngineDied, Service
from lore_generator.settings import GeneratorSettings

log = structlog.get_logger()


def main() -> NoReturn:
    settings = load(GeneratorSettings)
    configure_logging("generator", settings.log_level)
    if settings.tp_plan is not None and ranks.is_follower():
        _follow(settings)
    if "generator_id" not in settings.model_fields_set:
        termination_log.leave(settings.generator_id)
    tracing.start("generator", settings.generator_id)
    # It exists before the engine, which may take long to load.
    service: Service | None = None
    try:
        store = open_store(settings)
        serve_health(
            "generator",
            settings,
            live=keepers.live,
            ready=lambda: service.ready() if service else "starting",
            started=lambda: service.started() if service else "starting",
        )
    except Fatal as error:
        _exit(error.status, str(error))
    try:
        engine = create_engine(settings.engine, settings.engine_options)
        service = Service(settings, engine, store)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(service, store))
    except (CannotStart, EngineDied, ValueError) as error:
        _exit(1, str(error))
    except Exception:
        log.exception("crashed")
        _exit(1)
    log.info("stopped")
    _exit(0)


def _follow(settings: GeneratorSettings) -> NoReturn:
    try:
        ranks.follow(create_engine(settings.engine, settings.engine_options))
    except ValueError as error:
        _exit(1, str(error))
    _exit(0)


async def _run(service: Service, store: Store) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int, _: object) -> None:
        # The loop's own handler would run only after other waiting events, such as news of a
        # request.
        wake = functools.partial(_stop_at_once, number) if stop.is_set() else stop.set
        stop.set()
        with contextlib.suppress(RuntimeError):  # the loop has already ended
            loop.call_soon_threadsafe(wake)

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        if "handle" in context:  # a callback failed, with unknown work left half done
            _exit(1, "crashed")

    loop.set_exception_handler(on_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    await service.run(stop)
    await store.close()


def _stop_at_once(number: int) -> NoReturn:
    log.warning("stopping at once")
    _exit(128 + number)


def _exit(status: int, reason: str = "") -> NoReturn:
    """Exit without waiting for threads: a model that is still loading cannot be interrupted."""
    if reason:
        log.error("generator failed", reason=reason)
        termination_log.leave_why(reason)
    tracing.stop()
    stderr.stream().drain()
    os._exit(status)
