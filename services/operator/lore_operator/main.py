"""Reads the settings, then sweeps and watches until SIGTERM.

Exit status: 0 after SIGTERM, 1 when it cannot start, 2 for bad settings.
"""

import asyncio
import signal
import socket
from collections.abc import Sequence

import kopf
import structlog

from lore import tracing
from lore.keepers import Keeper
from lore.logs import configure_logging
from lore.serving import open_store, serve_health
from lore.settings import load
from lore.startup import BadSetting, Fatal
from lore_operator.api import log_in
from lore_operator.cluster import ApiServer
from lore_operator.settings import OperatorSettings
from lore_operator.sweeper import Sweeper
from lore_operator.watch import Watch, watches

log = structlog.get_logger()


def main() -> None:
    """Run the operator. Raises Fatal."""
    settings = load(OperatorSettings)
    configure_logging("operator", settings.log_level)
    tracing.start("operator", socket.gethostname())
    try:
        asyncio.run(run(settings))
    finally:
        tracing.stop()
    log.info("stopped")


async def run(settings: OperatorSettings) -> None:
    """Sweep and watch until SIGTERM. Raises Fatal."""
    store = open_store(settings)
    try:
        namespace = settings.namespace or log_in().default_namespace
        if not namespace:
            raise BadSetting("LORE_NAMESPACE is not set, and the kubeconfig names no namespace")
        cluster = ApiServer(namespace, release=settings.release)
    except (kopf.LoginError, OSError) as error:
        raise Fatal(f"cannot log in to the cluster: {error}") from None
    sweeper = Sweeper(settings, cluster, store)
    try:
        health = serve_health("operator", settings, live=sweeper.live, ready=sweeper.ready)
    except Fatal:
        await cluster.close()
        raise
    log.info("started", namespace=namespace, policy=settings.policy)
    try:
        await _work(sweeper, watches(cluster, settings.policy, sweeper.wake))
    finally:
        health.stop()


async def _work(sweeper: Sweeper, watching: Sequence[Watch]) -> None:
    """Run until SIGTERM."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await sweeper.start()
    keepers = [Keeper(f"watch of {watch.resource}", watch.run) for watch in watching]
    await told.wait()
    for keeper in keepers:
        await keeper.stop()
    await sweeper.stop()
