"""A fleet on each kind of store that a URL can name, and the kinds of faults that fit it."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from tests.faults.fleet import Fleet
from tests.faults.groups import CLUSTER_KINDS, CUT_OFF, SENTINEL_KINDS, GroupFleet
from tests.faults.kinds import KINDS, Kind
from tests.faults.outages import OUTAGES
from tests.faults.proxy import Proxy
from tests.parting import can_part
from tests.valkeys import Cluster, Tls, Trio

LEASE_S = 5
"""Longer than a failover takes."""


class TlsFleet(Fleet):
    """Generators and edges reach their store by TLS, through proxies that see nothing of it."""

    async def _start_valkey(self) -> None:
        await super()._start_valkey()
        self.tls = self._stack.enter_context(Tls(self.valkey.port))

    async def _proxy(self, port: int) -> Proxy:
        return await super()._proxy(self.tls.port if port == self.valkey.port else port)

    def _url(self, link: Proxy) -> str:
        return self.tls.url.replace(f":{self.tls.port}?", f":{link.port}?")


_GROUPS: dict[str, tuple[type[Cluster | Trio], Sequence[Kind]]] = {
    "sentinel": (Trio, SENTINEL_KINDS),
    "cluster": (Cluster, CLUSTER_KINDS),
}
STORES = ("single", "tls", *(name + by for name in _GROUPS for by in ("", "-tls")))


def kinds_of(store: str) -> list[Kind]:
    """What can be done to a fleet on it."""
    if store in ("single", "tls"):
        return [*KINDS, *OUTAGES]
    _, kinds = _GROUPS[store.removesuffix("-tls")]
    able = [kind for kind in kinds if kind is not CUT_OFF or can_part()]
    return [*(kind for kind in KINDS if not kind.of_one_server), *able]


@contextlib.asynccontextmanager
async def fleet_on(store: str) -> AsyncIterator[Fleet]:
    if store in ("single", "tls"):
        async with Fleet() if store == "single" else TlsFleet() as fleet:
            yield fleet
    else:
        make, _ = _GROUPS[store.removesuffix("-tls")]
        with make(tls=store.endswith("-tls")) as group:
            async with GroupFleet(group, generator={"lease_s": LEASE_S}) as fleet:
                yield fleet
