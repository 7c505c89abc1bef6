"""kopf: it watches the policy and the generator pods, and wakes the sweep when they change.

What an event says is not used; the sweep lists everything anew. So nothing is lost with an
event that a dropped or silent watch never delivered, but the time until the next sweep.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import kopf

from lore_operator.cluster import VERSION, Login
from lore_operator.rbac import GROUP

COMPONENT_LABEL = "app.kubernetes.io/component"
# The server ends a watch after five minutes, the client gives one up that the server forgot
# to end, and one in which not even a bookmark (once a minute) arrives counts as dead.
SERVER_S, CLIENT_S, SILENT_S, CONNECT_S = 300, 330, 75, 10
END_S = 10.0


class WatchFailed(Exception):
    """kopf gave up; what it met is in its own log lines."""


class _Backoffs:
    """Seconds between attempts, for ever: a verb that is denied may be granted later."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 2, 4, 8), itertools.repeat(15))


async def watch(
    namespace: str,
    policy: str,
    *,
    login: Login,
    start: Callable[[], Awaitable[None]],
    on_change: Callable[[], None],
    stop: Callable[[], Awaitable[None]],
) -> None:
    """Run kopf until SIGTERM. Raises WatchFailed.

    ``start`` and ``stop`` frame it: all tasks of ours must live between them, because kopf
    waits for those that it finds when it ends.
    """
    ended = asyncio.Event()
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    settings.scanning.disabled = True  # it would watch kinds and namespaces, cluster-wide
    settings.posting.enabled = False
    settings.networking.error_backoffs = _Backoffs()
    settings.networking.request_timeout = settings.networking.connect_timeout = CONNECT_S
    settings.watching.server_timeout = SERVER_S
    settings.watching.client_timeout = CLIENT_S
    settings.watching.inactivity_timeout = SILENT_S
    settings.watching.connect_timeout = CONNECT_S
    settings.watching.label_selectors["pods"] = f"{COMPONENT_LABEL}=generator"
    settings.watching.field_selectors["streampolicies"] = f"metadata.name={policy}"

    @kopf.on.startup(registry=registry)
    async def on_startup(**_: Any) -> None:
        await start()

    @kopf.on.cleanup(registry=registry)
    async def on_cleanup(**_: Any) -> None:
        await stop()
        ended.set()

    @kopf.on.login(registry=registry)
    def on_login(**_: Any) -> kopf.ConnectionInfo:
        return login()

    @kopf.on.event("v1", "pods", registry=registry)
    @kopf.on.event(GROUP, VERSION, "streampolicies", registry=registry)
    async def on_event(**_: Any) -> None:
        on_change()

    watching = asyncio.create_task(
        kopf.operator(registry=registry, settings=settings, namespaces=[namespace], standalone=True)
    )
    ending = asyncio.create_task(ended.wait())
    await asyncio.wait([watching, ending], return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    # Where one watch has failed while another waited to be tried again, kopf never ends.
    await asyncio.wait([watching], timeout=END_S)
    if not watching.done() or watching.exception() is not None:
        raise WatchFailed
