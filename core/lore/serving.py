"""The start of every service: its store, and its port for health and metrics."""

import structlog

from lore.health import Check, HealthServer
from lore.metrics import exported_by
from lore.settings import CommonSettings
from lore.startup import BadSetting, Fatal
from lore.store import Store, create_store

log = structlog.get_logger()


def open_store(settings: CommonSettings, *, floor_s: float = 300.0) -> Store:
    """Create the store of the settings. See ``create_store``. Raises BadSetting."""
    try:
        return create_store(settings.valkey_url, floor_s=floor_s)
    except ValueError as error:
        raise BadSetting(f"LORE_VALKEY_URL: {error}") from None


def serve_health(service: str, settings: CommonSettings, **checks: Check) -> HealthServer:
    """Start to serve health and metrics. ``checks`` are those of ``HealthServer``. Raises Fatal."""
    host, port = settings.health_host, settings.health_port
    try:
        health = HealthServer(host, port, **checks, registry=exported_by(service))
    except OSError as error:
        raise cannot_listen(host, port, "LORE_HEALTH_PORT", error) from None
    health.start()
    log.info("health", host=host, port=health.port)
    return health


def cannot_listen(host: str, port: int, setting: str, error: OSError) -> Fatal:
    return Fatal(f"cannot listen on {host}:{port} ({error.strerror}); choose another {setting}")
