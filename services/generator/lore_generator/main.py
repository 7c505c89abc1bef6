"""Read the settings, load the engine, serve until SIGTERM.

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
from lore.health import HealthServer
from lore.logs import configure_logging
from lore.metrics import exported_by
from lore.settings import load
from lore.store import Store, create_store
from lore_generator import last_words
from lore_generator.engines import create_engine
from lore_generator.service import CannotStart, EngineDied, Service
from lore_generator.settings import GeneratorSettings

log = structlog.get_logger()


def main() -> NoReturn:
    settings = load(GeneratorSettings)
    configure_logging("generator", settings.log_level)
    if "generator_id" not in settings.model_fields_set:
        last_words.leave(settings.generator_id)
    tracing.start("generator", settings.generator_id)
    # Before the engine, which may take long.
    service: Service | None = None
    try:
        store = create_store(settings.valkey_url)
    except ValueError as error:
        _exit(2, f"LORE_VALKEY_URL: {error}")
    try:
        health = HealthServer(
            settings.health_host,
            settings.health_port,
            live=keepers.live,
            ready=lambda: service.ready() if service else "starting",
            registry=exported_by("generator"),
        )
    except OSError as error:
        place = f"{settings.health_host}:{settings.health_port}"
        _exit(1, f"cannot serve health checks on {place}: {error.strerror}")
    health.start()
    log.info("health", port=health.port)
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


async def _run(service: Service, store: Store) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int, _: object) -> None:
        # The loop's own handler would come after what else has come, such as news of a request.
        wake = functools.partial(_stop_at_once, number) if stop.is_set() else stop.set
        stop.set()
        with contextlib.suppress(RuntimeError):  # it has ended already
            loop.call_soon_threadsafe(wake)

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        if "handle" in context:  # a callback: nobody knows what it has left half done
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
    """End without waiting for threads: a model that is still loading cannot be interrupted."""
    if reason:
        log.error(reason)
    tracing.stop()
    stderr.stream().drain()
    os._exit(status)
