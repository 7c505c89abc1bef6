"""Start an edge: settings from the environment (``LORE_…``)."""

import asyncio
import gc
import resource
import sys
import time

import structlog
import uvloop

from lore import tracing
from lore.health import HealthServer
from lore.logs import configure_logging
from lore.metrics import exported_by
from lore.settings import load
from lore.store import Store, StoreUnavailable, create_store
from lore_edge.app import Edge
from lore_edge.auth.authenticator import BadAuth
from lore_edge.server import EdgeServer, bind
from lore_edge.settings import EdgeSettings

STORE_RETRY_S = 0.5
GC_THRESHOLD = 10_000  # objects; a page of history is some hundreds

_log = structlog.get_logger()


class Fatal(Exception):
    """The edge cannot start; the message says why and what to do."""

    status = 1


class BadSetting(Fatal):
    status = 2


def main() -> None:
    settings = load(EdgeSettings)
    # A stream is a file descriptor; the usual soft limit of 1,024 is there for select().
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    configure_logging("edge", settings.log_level)
    tracing.start("edge", settings.edge_id)
    try:
        uvloop.run(run(settings))
    except Fatal as error:
        print(f"lore-edge: {error}", file=sys.stderr)
        sys.exit(error.status)
    finally:
        tracing.stop()


async def run(settings: EdgeSettings) -> None:
    """Serve until a signal comes. Raises Fatal."""
    try:
        listener = bind(settings.host, settings.port)
    except OSError as error:
        raise Fatal(_bind_problem(settings.host, settings.port, "PORT", error)) from None
    try:
        store = create_store(settings.valkey_url, floor_s=settings.retention_floor_s)
    except ValueError as error:
        raise BadSetting(f"LORE_VALKEY_URL: {error}") from None
    try:
        edge = Edge(settings, store)
    except BadAuth as error:
        raise BadSetting(str(error)) from None
    server = EdgeServer(edge, settings)
    try:
        health = HealthServer(
            settings.health_host,
            settings.health_port,
            live=server.live,
            ready=server.ready,
            registry=exported_by("edge"),
        )
    except OSError as error:
        problem = _bind_problem(settings.health_host, settings.health_port, "HEALTH_PORT", error)
        raise Fatal(problem) from None
    health.start()
    _log.info("health", host=settings.health_host, port=health.port)
    try:
        await connect(store, settings, server)
        spare_the_collector()
        await server.serve(sockets=[listener])
    finally:
        await edge.close()
        await store.close()
        health.stop()


def spare_the_collector() -> None:
    """What has been made by now stays: looking through it for garbage, again and again, stopped
    the loop for longer than a reader waits who comes back, and took a quarter of its time when
    many did. New objects are looked through less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


async def connect(store: Store, settings: EdgeSettings, server: EdgeServer) -> None:
    """Wait for a store that is merely late. Raises Fatal when it stays away."""
    give_up_at = time.monotonic() + settings.store_wait_s
    waiting = False
    while True:
        try:
            await store.connect()
        except StoreUnavailable as error:
            server.waits_for = f"waiting for the store: {error}"
            if time.monotonic() >= give_up_at:
                raise Fatal(
                    f"no store after {settings.store_wait_s:g} s ({error}); "
                    "is Valkey running, and does LORE_VALKEY_URL point to it?"
                ) from None
            if not waiting:
                _log.warning("waiting for the store", reason=str(error))
                waiting = True
            await asyncio.sleep(STORE_RETRY_S)
        else:
            return


def _bind_problem(host: str, port: int, setting: str, error: OSError) -> str:
    return f"cannot listen on {host}:{port} ({error.strerror}); choose another LORE_{setting}"
