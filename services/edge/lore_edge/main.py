"""Starts an edge: settings from the environment (``LORE_…``)."""

import resource

import structlog
import uvloop

from lore import collector, tracing
from lore.logs import configure_logging
from lore.serving import cannot_listen, open_store, serve_health
from lore.settings import load
from lore.startup import BadSetting, Fatal
from lore.store import Store, StoreUnavailable, arrival
from lore_edge.app import Edge
from lore_edge.auth.authenticator import BadAuth
from lore_edge.server import EdgeServer, bind
from lore_edge.settings import EdgeSettings

_log = structlog.get_logger()


def main() -> None:
    """Run the edge. Raises Fatal."""
    settings = load(EdgeSettings)
    # A stream takes a file descriptor. The usual soft limit of 1,024 exists for select().
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    configure_logging("edge", settings.log_level)
    tracing.start("edge", settings.edge_id)
    try:
        uvloop.run(run(settings))
    finally:
        tracing.stop()


async def run(settings: EdgeSettings) -> None:
    """Serve until a signal comes. Raises Fatal."""
    try:
        listener = bind(settings.host, settings.port)
    except OSError as error:
        raise cannot_listen(settings.host, settings.port, "LORE_PORT", error) from None
    store = open_store(settings, floor_s=settings.retention_floor_s)
    try:
        edge = Edge(settings, store)
    except BadAuth as error:
        raise BadSetting(str(error)) from None
    server = EdgeServer(edge, settings)
    health = serve_health("edge", settings, live=server.live, ready=server.ready)
    try:
        await connect(store, settings, server)
        collector.spare()
        await server.serve(sockets=[listener])
    finally:
        await edge.close()
        await store.close()
        health.stop()


async def connect(store: Store, settings: EdgeSettings, server: EdgeServer) -> None:
    """Wait for a store that is merely late. Raises Fatal when it stays away."""
    try:
        await arrival.connect(store, settings.store_wait_s, server.wait_for)
    except StoreUnavailable as error:
        raise Fatal(
            f"no store after {settings.store_wait_s:g} s ({error}); "
            "is Valkey running, and does LORE_VALKEY_URL point to it?"
        ) from None
