"""Read the settings, then sweep and watch until SIGTERM.

Exit status: 0 after SIGTERM, 1 when it cannot start, 2 for bad settings.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence

import kopf
import structlog

from lore import tracing
from lore.health import HealthServer
from lore.keepers import Keeper
from lore.logs import configure_logging
from lore.metrics import exported_by
from lore.settings import load
from lore.store import create_store
from lore_operator.api import log_in
from lore_operator.cluster import Cluster
from lore_operator.settings import OperatorSettings
from lore_operator.sweeper import Sweeper
from lore_operator.watch import Watch, watches

log = structlog.get_logger()


class Fatal(Exception):
    """The operator cannot start; the message says why and what to do."""

    status = 1


class BadSetting(Fatal):
    status = 2


def main() -> None:
    settings = load(OperatorSettings)
    configure_logging("operator", settings.log_level)
    tracing.start("operator", socket.gethostname())
    try:
        asyncio.run(run(settings))
    except Fatal as error:
        print(f"lore-operator: {error}", file=sys.stderr)
        sys.exit(error.status)
    finally:
        tracing.stop()
    log.info("stopped")


async def run(settings: OperatorSettings) -> None:
    """Raises Fatal."""
    try:
        store = create_store(settings.valkey_url)
    except ValueError as error:
        raise BadSetting(f"LORE_VALKEY_URL: {error}") from None
    try:
        namespace = settings.namespace or log_in().default_namespace
        if not namespace:
            raise BadSetting("LORE_NAMESPACE is not set, and the kubeconfig names no namespace")
        cluster = Cluster(namespace)
    except (kopf.LoginError, OSError) as error:
        raise Fatal(f"cannot log in to the cluster: {error}") from None
    sweeper = Sweeper(settings, cluster, store)
    try:
        health = HealthServer(
            settings.health_host,
            settings.health_port,
            live=sweeper.live,
            ready=sweeper.ready,
            registry=exported_by("operator"),
        )
    except OSError as error:
        await cluster.close()
        place = f"{settings.health_host}:{settings.health_port}"
        raise Fatal(f"cannot listen on {place} ({error.strerror})") from None
    health.start()
    log.info("started", namespace=namespace, policy=settings.policy, health_port=health.port)
    try:
        await _work(sweeper, watches(cluster, settings.policy, sweeper.wake))
    finally:
        health.stop()


async def _work(sweeper: Sweeper, watching: Sequence[Watch]) -> None:
    """Until SIGTERM."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await sweeper.start()
    keepers = [Keeper(f"watch of {watch.resource}", watch.run) for watch in watching]
    await told.wait()
    for keeper in keepers:
        await keeper.stop()
    await sweeper.stop()
