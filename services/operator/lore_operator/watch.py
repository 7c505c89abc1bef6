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
SERVER_S, CLIENT_S, SILENT_S, CONNECT_S = 300.0, 330.0, 75.0, 10.0


class _Backoffs:
    """Seconds between attempts, for ever: a verb that is denied may be granted later."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 2, 4, 8, 15), itertools.repeat(30))


async def watch(
    namespace: str,
    policy: str,
    *,
    login: Login,
    start: Callable[[], Awaitable[None]],
    on_change: Callable[[], None],
    stop: Callable[[], Awaitable[None]],
    stopped: asyncio.Event | None = None,
) -> None:
    """Run kopf until SIGTERM, or until ``stopped`` is set.

    ``start`` and ``stop`` frame it: all tasks of ours must live between them, because kopf
    waits for those that it finds when it ends.
    """
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

    @kopf.on.login(registry=registry)
    def on_login(**_: Any) -> kopf.ConnectionInfo:
        return login()

    @kopf.on.event("v1", "pods", registry=registry)
    @kopf.on.event(GROUP, VERSION, "streampolicies", registry=registry)
    async def on_event(**_: Any) -> None:
        on_change()

    await kopf.operator(
        registry=registry,
        settings=settings,
        namespaces=[namespace],
        standalone=True,
        stop_flag=stopped,
    )
