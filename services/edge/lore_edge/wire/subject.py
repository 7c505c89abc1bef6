"""The subject of a call, as the authenticator wrote it into the scope."""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from lore_edge.settings import EdgeSettings, Network
from lore_edge.wire.asgi import Scope, header

ANONYMOUS = "anonymous"
IPV6_PREFIX = 64  # the prefix that one network, or one home, has to itself

_SUBJECT = "lore.subject"


def identify(scope: Scope, subject: str) -> None:
    """Set on whose behalf this call is made. For the authenticator alone."""
    scope[_SUBJECT] = subject


def subject_of(scope: Scope) -> str:
    """The subject on whose behalf a call is made. No other code decides this.

    Raises KeyError for a call that needs no authentication.
    """
    return scope[_SUBJECT]


def is_identified(scope: Scope) -> bool:
    return _SUBJECT in scope


def client_of(scope: Scope, settings: EdgeSettings) -> str:
    """The client whose share of the queue a request takes (P17.6). It does not own the request: a
    reader that moves to another network keeps its requests (P17.7).
    """
    if settings.share_by == "subject" or not scope.get("client"):
        return subject_of(scope)
    forwarded = header(scope, b"x-forwarded-for")
    return share_of(_address(scope["client"][0], forwarded, settings.trusted_proxies))


def _address(peer: str, forwarded: str, proxies: Collection[Network]) -> IPv4Address | IPv6Address:
    """The last address that is not a trusted proxy's: anyone may write those before it."""
    address = ip_address(peer)
    hops = [hop.strip() for hop in forwarded.split(",")]
    while hops and any(address in network for network in proxies):
        try:
            address = ip_address(hops.pop())
        except ValueError:
            break
    return address


def share_of(address: IPv4Address | IPv6Address) -> str:
    """The unit by which an address counts: itself, or in IPv6 its /64."""
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address.packed, IPV6_PREFIX), strict=False))
